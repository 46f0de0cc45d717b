"""A calibration: every pair measured once, whatever interrupts it, then a preset that appears when it is complete."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from alignvid.calibration.choose import BlockRatio, block_ratios, check_choice, chosen_blocks
from alignvid.calibration.foreground import digest
from alignvid.calibration.measure import Block, has_contrast, measure, picture_of
from alignvid.calibration.pairs import LEAST, RECOMMENDED, Pair
from alignvid.calibration.pictures import PICTURED, view_arrays, write_sheets
from alignvid.calibration.preset_file import preset_bytes
from alignvid.calibration.setup import Setup, set_up
from alignvid.calibration.work_folder import PairRow, WorkFolder
from alignvid.errors import InputError, ObservationError
from alignvid.files import writable_folder, write_bytes
from alignvid.generate.loading import ModelSource
from alignvid.generate.model import Model, load_model
from alignvid.generate.plan import Plan, plan
from alignvid.recipe import Recipe

_DIGITS = 6  # of shares; a mean over 50 pairs has no more


@dataclass(frozen=True)
class Calibration:
    """A finished calibration."""

    preset: Path
    recipe: Recipe
    blocks: list[BlockRatio]
    pair_count: int
    """Pairs that were used."""
    foreground_share: float
    """Of the pictures' pixels, mean over the pairs."""
    chance: float
    """Foreground ratio of a block that singles out nothing, mean over the pairs."""
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "preset": str(self.preset),
            "recipe": self.recipe.to_dict(),
            "pairs": self.pair_count,
            "foreground_share": self.foreground_share,
            "chance": self.chance,
            "blocks": [asdict(block) for block in self.blocks],
            "notes": self.notes,
        }


def calibrate(
    data: str,
    out: str | Path,
    *,
    fields: Mapping[str, Any],
    count: int | None = None,
    tau: float = 0.5,
    foreground: str = "auto",
    masks: str | None = None,
    sam2: str | None = None,
    pictures: str | Path | None = None,
    show_progress: bool = False,
) -> Calibration:
    """Measure which blocks of a model look at the foreground, and write a preset with those above tau.

    What is measured lies in a folder beside the preset; the same call resumes there.

    Args:
        data: As for `read_pairs`.
        out: The preset's file, which ends in .toml; it is replaced only when the new one is complete.
        fields: Fields of GenerationSpec that all pairs share, the model among them.
        count: Pairs to use; all of the data if None.
        tau: Foreground ratio above which a block is chosen.
        foreground: Source of the masks, one of SOURCES.
        masks: Folder of masks.
        sam2: Folder or Hub id of a SAM 2 model.
        pictures: Folder for a sheet of pictures per block.
        show_progress: Draw a progress bar on stderr.

    Raises: AlignvidError before a model is loaded, where that can be known so early.
    """
    out = _checked_out(Path(out), tau)
    work = out.with_suffix(".calibration")
    setup = set_up(data, fields, count, foreground, masks, sam2, work)
    folder = WorkFolder(work, setup.run)
    notes = _warn_of([*_notes(setup)])
    _measure_missing(setup, folder, show_progress)
    rows = [folder.rows[pair.id] for pair in setup.pairs]
    notes += _warn_of(_notes_on_rows(rows))
    used = [row for row in rows if row.ratios is not None]
    blocks = _ratios(used, setup, tau)
    if pictures is not None:
        write_sheets(Path(pictures), folder.views(), blocks)
    notes += _warn_of([check_choice(blocks, setup.usable, tau)])
    return _written(out, setup, used, blocks, tau, notes)


def _written(
    out: Path, setup: Setup, used: Sequence[PairRow], blocks: list[BlockRatio], tau: float, notes: list[str]
) -> Calibration:
    """Write the preset, with all that was measured for it."""
    recipe = setup.recipe.override(blocks=chosen_blocks(blocks))
    share, chance = np.mean([(row.foreground_share, row.chance) for row in used], axis=0).round(_DIGITS).tolist()
    counts = {"pairs": len(used), "foreground_share": share, "chance": chance}
    facts = {**setup.data, **setup.run, "tau": tau, **counts, "notes": notes}
    title = f"{setup.source.name}, calibrated on {len(used)} pairs"
    write_bytes(out, preset_bytes(title=title, family=setup.family, recipe=recipe, facts=facts, blocks=blocks))
    return Calibration(out, recipe, blocks, len(used), share, chance, notes)


def _checked_out(out: Path, tau: float) -> Path:
    if not 0.0 <= tau < 1.0:
        raise InputError(f"tau is {tau:g}; a foreground ratio lies between 0 and 1, so choose 0 or more, below 1.")
    if out.suffix != ".toml":
        raise InputError(f"The preset's file {str(out)!r} must end in .toml; that distinguishes a path from a name.")
    if out.is_dir():
        raise InputError(f"{str(out)!r} is a folder; give the name of a file for the preset.")
    writable_folder(out.parent)
    return out


def _measure_missing(setup: Setup, folder: WorkFolder, show_progress: bool) -> None:
    missing = [pair for pair in setup.pairs if not _is_measured(setup, folder, pair)]
    if not missing:
        return
    setup.foreground.load()
    model = load_model(setup.source, setup.pairs[0].spec, show_progress=False)
    pictured, count = {pair.id for pair in setup.pairs[:PICTURED]}, len(setup.pairs)
    with tqdm(total=count, initial=count - len(missing), desc="pairs", disable=not show_progress) as bar:
        for pair in missing:
            folder.append(_measured(setup, folder, model, pair, keeps_view=pair.id in pictured))
            bar.update()


def _is_measured(setup: Setup, folder: WorkFolder, pair: Pair) -> bool:
    row = folder.rows.get(pair.id)
    if row is not None and row.sha256 != digest([pair], setup.foreground):
        raise InputError(
            f"The pair {pair.id!r} has another prompt, picture, seed or mask than when it was measured for "
            f"{str(folder.folder)!r}; put it back, give another --out to begin anew, or delete that folder."
        )
    return row is not None


def _measured(setup: Setup, folder: WorkFolder, model: Model, pair: Pair, *, keeps_view: bool) -> PairRow:
    planned = _planned(pair, setup.source)
    image = picture_of(planned)
    mask = setup.foreground.mask_of(pair, image)
    sha256, share = digest([pair], setup.foreground), float(mask.mean())
    if not has_contrast(mask):
        return PairRow(pair.id, sha256, share, share, None, [])
    try:
        measured = measure(model, planned, mask, setup.recipe.steps)
    except ObservationError as error:
        raise ObservationError(f"The pair {pair.id!r}: {error}") from error
    if keeps_view:
        folder.save_view(pair.id, view_arrays(image, mask, measured))
    ratios, blocks = list(measured.ratios.values()), [list(block) for block in measured.ratios]
    return PairRow(pair.id, sha256, share, measured.chance, ratios, blocks)


def _planned(pair: Pair, source: ModelSource) -> Plan:
    try:
        return plan(pair.spec, source=source)
    except InputError as error:
        raise InputError(f"The pair {pair.id!r}: {error}") from error


def _ratios(used: Sequence[PairRow], setup: Setup, tau: float) -> list[BlockRatio]:
    if len(used) < LEAST:
        raise InputError(
            f"Only {len(used)} of {len(setup.pairs)} pairs have a foreground before a background; at least {LEAST} are "
            "needed, so give other pairs or masks."
        )
    blocks = [Block(str(stack), int(block)) for stack, block in used[0].blocks]
    values = np.array([row.ratios for row in used], np.float64)
    return block_ratios(values, blocks, tau=tau, usable=setup.usable, seed=setup.pairs[0].spec.seed)


def _notes(setup: Setup) -> list[str | None]:
    few = None
    if len(setup.pairs) < RECOMMENDED:
        few = f"{len(setup.pairs)} pairs are few: intervals will be wide, {RECOMMENDED} are recommended."
    return [few, setup.foreground.note]


def _notes_on_rows(rows: Sequence[PairRow]) -> list[str | None]:
    left_out = [row.id for row in rows if row.ratios is None]
    if not left_out:
        return [None]
    return [
        f"{len(left_out)} of {len(rows)} pairs are left out, because all or nothing of their picture is foreground: "
        f"{', '.join(left_out[:5])}{', …' if len(left_out) > 5 else ''}."
    ]


def _warn_of(notes: Sequence[str | None]) -> list[str]:
    """Warn of the notes, and give them."""
    given = [note for note in notes if note is not None]
    for note in given:
        warnings.warn(note, stacklevel=3)
    return given
