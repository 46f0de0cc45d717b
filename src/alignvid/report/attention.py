"""The page on what attention did in a run: its videos, its words' attention maps as videos, and plots of its traces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from alignvid.analysis.trace import Trace
from alignvid.errors import PictureError
from alignvid.files import write_together
from alignvid.generate import read_traces
from alignvid.generate.record import Record, read_record
from alignvid.media.images import png_bytes, read_image
from alignvid.media.videos import Frames, encode_video, read_video
from alignvid.plots import Runs, change, heat_maps, inline_svg, lines, mean_map, overlaid
from alignvid.plots.runs import Attention, attentions, grid, title
from alignvid.plots.style import house_style
from alignvid.report.page import PAGE_FILE, Clip, Count, Link, Page, Panel, Plot, Row, render_page
from alignvid.report.rows import ATTENTION_PAGE, LABELS, comparison_files, row_of_record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEAD = (
    "While a video is made, each part of it looks at the words of the prompt, at the picture and at the rest of the "
    "video. The shares say how much of that attention a word gets, as a mean over the whole video."
)
_ENTROPY_NOTE = (
    "Entropy says how widely a token spreads its attention: 0 if one key has it all, the logarithm of the number of "
    "keys if all have the same."
)
_PANEL_IN = 3.6, 2.9
_HEAT_IN = 3.6, 4.8
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
        counts=(*_shares(runs), *_entropies(runs)),
        plots=_plots(runs),
        links=_links(folder),
    )
    files = {clip.file: clip.data for of_word in clips.values() for clip in of_word}
    files |= {ATTENTION_PAGE: render_page(page).encode(), **_linked_page(folder, record)}
    write_together(folder, files)
    return folder / ATTENTION_PAGE


def write_word_page(folder: Path, word: str) -> Path:
    """Write the page of one word's attention map alone, with its videos, into the folder of an observed run.

    Raises: as `write_attention_page`; PictureError if the run has no map of that word.
    """
    record = read_record(folder)
    traces = read_traces(folder, record)
    number = _number_of(word, traces)
    clips = {word: _clips_of(folder, record, traces, word, number)}
    page = Page(title=f"Attention to “{word}”", lead=_MAPS_NOTE, rows=tuple(_word_rows(record, clips)))
    files = {clip.file: clip.data for clip in clips[word]}
    name = f"attention-{number}.html"
    write_together(folder, {**files, name: render_page(page).encode()})
    return folder / name


def _links(folder: Path) -> tuple[Link, ...]:
    """To the run's own page, and to that of all jobs where the run's page has such a link."""
    return (Link("Comparison", PAGE_FILE), *_back(folder)) if _own_page(folder) else ()


def _linked_page(folder: Path, record: Record) -> dict[str, bytes]:
    """The run's own page, made anew with a link to this one."""
    links = (*_back(folder), Link("Attention", ATTENTION_PAGE))
    return comparison_files(record, links) if _own_page(folder) else {}


def _own_page(folder: Path) -> str:
    """The page that `alignvid generate` wrote beside the record; empty if there is none, or it is something else."""
    try:
        text = (folder / PAGE_FILE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    return text if 'href="record.json"' in text else ""


def _back(folder: Path) -> tuple[Link, ...]:
    above = f"../{PAGE_FILE}"
    return (Link("All", above),) if f'href="{above}"' in _own_page(folder) else ()


class _WordClip:
    """A role's video under the map of a word, as a file's bytes."""

    def __init__(self, file: str, role: str, frames: Frames, fps: float) -> None:
        self.file, self.role = file, role
        self.height, self.width = frames.shape[1:3]
        is_image = file.endswith(".png")
        self.data = png_bytes(Image.fromarray(frames[0])) if is_image else encode_video(frames, fps)


def _word_clips(folder: Path, record: Record, traces: Mapping[str, Trace]) -> dict[str, list[_WordClip]]:
    words = _words(traces)
    return {word: _clips_of(folder, record, traces, word, number) for number, word in enumerate(words, start=1)}


def _clips_of(folder: Path, record: Record, traces: Mapping[str, Trace], word: str, number: int) -> list[_WordClip]:
    """The videos of a word, all on one scale."""
    maps = {role: mean_map(trace.maps, word) for role, trace in traces.items()}
    brightest = max(float(weights.max()) for weights in maps.values())
    clips = []
    for role, weights in maps.items():
        name = record.outputs[role]["file"]
        drawn = overlaid(_frames(folder / name), weights, word=word, brightest=brightest)
        clips.append(_WordClip(f"attention-{number}-{Path(name).name}", role, drawn, record.settings["fps"]))
    return clips


def _words(traces: Mapping[str, Trace]) -> list[str]:
    """The words that have maps."""
    return list(dict.fromkeys(item.name for trace in traces.values() for item in trace.maps))


def _number_of(word: str, traces: Mapping[str, Trace]) -> int:
    """Place of a word among those that have maps, from 1. Raises: PictureError if it has none."""
    if word not in (words := _words(traces)):
        raise PictureError(f"There is no map of {word!r}; there is {', '.join(words) or 'none at all'}.")
    return words.index(word) + 1


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


def _shares(runs: Runs) -> tuple[Count, ...]:
    """How much attention the chosen words got, or the prompt as a whole if none was chosen."""
    traces = [trace for [trace] in runs.values()]
    words = dict.fromkeys(item.name for trace in traces for item in trace.maps)
    if words:
        means = {f"“{word}”": [float(mean_map(trace.maps, word).mean()) for trace in traces] for word in words}
    else:
        measure = _mass(runs)
        of_text = [
            item for item in attentions(runs, measure) if item.keys == "text" and not _is_whole(runs, item, measure)
        ]
        means = {
            "your prompt" + (f", {title(item, of_text)}" if len(of_text) > 1 else ""): _means(runs, item, measure)
            for item in of_text
        }
    return tuple(
        Count(f"attention on {what}", " → ".join(_percentage(value) for value in values))
        for what, values in means.items()
    )


def _entropies(runs: Runs) -> tuple[Count, ...]:
    found = attentions(runs, "entropy")
    return tuple(
        Count(
            f"entropy, {title(attention, found)}",
            f"{' → '.join(f'{mean:.3f}' for mean in _means(runs, attention, 'entropy'))} nats",
        )
        for attention in found
    )


def _means(runs: Runs, attention: Attention, measure: str) -> list[float]:
    """Over blocks and steps, by kind of run."""
    return [float(np.nanmean(grid(traces, attention, measure).values)) for traces in runs.values()]


def _percentage(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else f"{100 * share:.2g} %"


def _mass(runs: Runs) -> str:
    return "pooled_mass" if all("pooled_mass" in trace.measures for [trace] in runs.values()) else "mass"


def _is_whole(runs: Runs, attention: Attention, measure: str) -> bool:
    """Whether the share is all there is, as that of a stream which is alone in its softmax."""
    return all(np.nanmin(grid(traces, attention, measure).values) > 1 - 1e-6 for traces in runs.values())


def _plots(runs: Runs) -> tuple[Plot, ...]:
    mass = _mass(runs)
    drawn = {
        "entropy-blocks": ("Entropy, block by block", "entropy", partial(lines, along="block")),
        "entropy-steps": ("Entropy, step by step", "entropy", partial(lines, along="step")),
        "entropy-map": ("Entropy in every block and step", "entropy", heat_maps),
        "mass-blocks": ("Where attention goes, block by block", mass, partial(lines, along="block")),
        "mass-steps": ("Where attention goes, step by step", mass, partial(lines, along="step")),
    }
    if len(runs) > 1:
        changes = partial(change, along="block")
        drawn |= {
            "entropy-change": ("What AlignVid changes in entropy", "entropy", changes),
            "mass-change": ("What AlignVid changes in where attention goes", mass, changes),
        }
    made = [_plot(runs, name, heading, measure, draw) for name, (heading, measure, draw) in drawn.items()]
    return tuple(plot for plot in made if plot.panels)


def _plot(runs: Runs, name: str, heading: str, measure: str, draw: Callable[[Runs, str], Figure]) -> Plot:
    """A picture for each attention, so that they stand side by side on a wide screen and below each other on a phone.

    A share that is always 1 is left out: it says that the stream is alone in its softmax.
    """
    found = attentions(runs, measure)
    panels, caption = [], ""
    for number, attention in enumerate(found):
        if measure != "entropy" and _is_whole(runs, attention, measure):
            continue
        figure = draw(_only(runs, attention), measure)
        figure.set_size_inches(_HEAT_IN if draw is heat_maps else _PANEL_IN)
        for axes in figure.axes:  # the page has the title
            axes.set_title(axes.get_title(loc="left").removeprefix(title(attention, [attention])).strip(), loc="left")
        caption, panel_title = str(figure.get_label()), title(attention, found)
        figure.set_label(f"{panel_title}. {caption}")
        panels.append(Panel(panel_title, inline_svg(figure, f"{name}-{number}")))
    note = f" {_ENTROPY_NOTE}" if name == "entropy-blocks" else ""
    return Plot(name, heading, tuple(panels), caption + note)


def _only(runs: Runs, attention: Attention) -> Runs:
    """The traces with the facts of one attention."""
    return {label: [trace.where(**attention._asdict()) for trace in traces] for label, traces in runs.items()}
