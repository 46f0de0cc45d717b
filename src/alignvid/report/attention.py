"""The page on what attention did in a run: its videos, its words' attention maps as videos, and plots of its traces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from alignvid.analysis.trace import Trace
from alignvid.files import write_together
from alignvid.generate import read_traces
from alignvid.generate.record import Record, read_record
from alignvid.media.images import png_bytes, read_image
from alignvid.media.videos import Frames, encode_video, read_video
from alignvid.plots import Runs, change, heat_maps, inline_svg, lines, mean_map, overlaid
from alignvid.plots.runs import attentions, grid, title
from alignvid.plots.style import house_style
from alignvid.report.page import Clip, Count, Page, Plot, Row, render_page
from alignvid.report.rows import LABELS, row_of_record

ATTENTION_PAGE = "attention.html"

_LEAD = (
    "What the attention of the video's tokens did in every block and step. Entropy says how widely a token spreads its "
    "attention: 0 if one key has it all, the logarithm of the number of keys if all have the same."
)
_MAPS_NOTE = (
    "Mean over heads, blocks, steps and passes of guidance, on the same scale in all clips of a word. A map has one "
    "value for each patch and latent frame; a latent frame stands for several frames of the video. Where a word is one "
    "of hundreds of text tokens, most of them padding, small shares are normal."
)


def write_attention_page(folder: Path) -> Path:
    """Write attention.html, and for each word a video of its attention map, into the folder of an observed run.

    Raises: InputError if there is no record, TraceError or PictureError if its traces cannot be drawn, MissingExtra
        without matplotlib; then nothing is written.
    """
    with house_style():
        pass  # says now, and not after minutes of reading, that matplotlib is missing
    record = read_record(folder)
    traces = read_traces(folder, record)
    runs = {LABELS[role]: [trace] for role, trace in traces.items()}
    clips = _word_clips(folder, record, traces)
    page = Page(
        title="What attention did",
        lead=f"{record.model['name']}, seed {record.spec['seed']}. {_LEAD} Means, {' → '.join(runs)}:",
        rows=(row_of_record(record, id="videos"), *_word_rows(record, clips)),
        counts=_counts(runs),
        plots=_plots(runs),
    )
    files = {clip.file: clip.data for of_word in clips.values() for clip in of_word}
    write_together(folder, {**files, ATTENTION_PAGE: render_page(page).encode()})
    return folder / ATTENTION_PAGE


class _WordClip:
    """A role's video under the map of a word, as a file's bytes."""

    def __init__(self, file: str, role: str, frames: Frames, fps: float) -> None:
        self.file, self.role = file, role
        self.height, self.width = frames.shape[1:3]
        is_image = file.endswith(".png")
        self.data = png_bytes(Image.fromarray(frames[0])) if is_image else encode_video(frames, fps)


def _word_clips(folder: Path, record: Record, traces: Mapping[str, Trace]) -> dict[str, list[_WordClip]]:
    words = list(dict.fromkeys(item.name for trace in traces.values() for item in trace.maps))
    frames = {role: _frames(folder / record.outputs[role]["file"]) for role in traces} if words else {}
    clips: dict[str, list[_WordClip]] = {}
    for number, word in enumerate(words, start=1):
        maps = {role: mean_map(trace.maps, word) for role, trace in traces.items()}
        brightest = max(float(weights.max()) for weights in maps.values())
        for role, weights in maps.items():
            file = f"attention-{number}-{Path(record.outputs[role]['file']).name}"
            drawn = overlaid(frames[role], weights, word=word, brightest=brightest)
            clips.setdefault(word, []).append(_WordClip(file, role, drawn, record.settings["fps"]))
    return clips


def _frames(file: Path) -> Frames:
    return np.asarray(read_image(file).pixels)[None] if file.suffix == ".png" else read_video(file).frames


def _word_rows(record: Record, clips: Mapping[str, list[_WordClip]]) -> list[Row]:
    return [
        Row(
            id=f"word-{number}",
            prompt=f"Attention to “{word}”",
            clips=tuple(Clip(f"“{word}”, {LABELS[clip.role]}", clip.file, clip.width, clip.height) for clip in of_word),
            fps=record.settings["fps"],
            notes=(_MAPS_NOTE,) if number == 1 else (),
            is_large=True,
        )
        for number, (word, of_word) in enumerate(clips.items(), start=1)
    ]


def _counts(runs: Runs) -> tuple[Count, ...]:
    found = attentions(runs, "entropy")
    means = {
        attention: [float(np.nanmean(grid(traces, attention, "entropy").values)) for traces in runs.values()]
        for attention in found
    }
    return tuple(
        Count(f"entropy, {title(attention, found)}", f"{' → '.join(f'{mean:.3f}' for mean in values)} nats")
        for attention, values in means.items()
    )


def _plots(runs: Runs) -> tuple[Plot, ...]:
    mass = "pooled_mass" if all("pooled_mass" in trace.measures for [trace] in runs.values()) else "mass"
    figures = {
        "entropy-blocks": ("Entropy, block by block", lines(runs, "entropy", along="block")),
        "entropy-steps": ("Entropy, step by step", lines(runs, "entropy", along="step")),
        "entropy-map": ("Entropy in every block and step", heat_maps(runs, "entropy")),
        "mass-blocks": ("Where attention goes, block by block", lines(runs, mass, along="block")),
        "mass-steps": ("Where attention goes, step by step", lines(runs, mass, along="step")),
    }
    if len(runs) > 1:
        figures |= {
            "entropy-change": ("What AlignVid changes in entropy", change(runs, "entropy", along="block")),
            "mass-change": ("What AlignVid changes in where attention goes", change(runs, mass, along="block")),
        }
    return tuple(Plot(name, heading, inline_svg(figure, name)) for name, (heading, figure) in figures.items())
