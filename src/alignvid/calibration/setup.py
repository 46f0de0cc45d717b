"""All that a calibration decides before a weight is read, and every refusal that is possible so early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignvid.attachment.placement import place
from alignvid.calibration.foreground import Foreground, choose_foreground, digest
from alignvid.calibration.measure import Block
from alignvid.calibration.pairs import Pair, read_pairs
from alignvid.calibration.ratio import HIGH_SHARE
from alignvid.errors import RecipeError
from alignvid.files import sha256_of_file
from alignvid.generate.device import choose_device
from alignvid.generate.loading import ModelSource, find_model
from alignvid.generate.plan import plan
from alignvid.generate.record import package_versions
from alignvid.generate.sketch import Sketch, resolve, sketch
from alignvid.recipe import Recipe

_RECIPE_FIELDS = ("preset", "gamma", "blocks", "steps_window", "streams", "branch")
_NOT_SETTINGS = (*_RECIPE_FIELDS, "model", "seed", "steps", "device", "dtype", "offload", "max_pixels")
"""Fields of the spec that change nothing in what is measured, or are recorded under another name."""


@dataclass(frozen=True)
class Setup:
    """All that is decided before a weight is read."""

    source: ModelSource
    pairs: list[Pair]
    foreground: Foreground
    recipe: Recipe
    usable: set[Block]
    """Blocks that the recipe could act in."""
    family: str
    steps: int
    run: dict[str, Any]
    """What must be equal for measurements to be of one run."""
    data: dict[str, Any]
    """What the pairs are; each may be measured in another run."""


def set_up(
    data: str,
    fields: Mapping[str, Any],
    count: int | None,
    wanted: str,
    masks: str | None,
    sam2: str | None,
    work: Path,
) -> Setup:
    """Find the model, the pairs and the masks.

    Args:
        data: As for `read_pairs`.
        fields: Fields of GenerationSpec that all pairs share, the model among them.
        count: Pairs to use; all of the data if None.
        wanted: Source of the masks, one of SOURCES.
        masks: Folder of masks.
        sam2: Folder or Hub id of a SAM 2 model.
        work: Folder for pictures that are drawn here.

    Raises: AlignvidError for whatever cannot be used.
    """
    pairs = read_pairs(data, fields, count=count, pictures=work / "pictures")
    source, first = find_model(pairs[0].spec.model), pairs[0].spec
    model = sketch(source)
    recipe = resolve(model, first.preset, first.recipe_overrides).recipe
    device = choose_device(first.device, first.dtype, first.offload)
    chosen = choose_foreground(wanted, masks, sam2, pairs, device.name)
    steps = plan(first, source=source).settings.steps
    return Setup(
        source=source,
        pairs=pairs,
        foreground=chosen,
        recipe=recipe,
        usable=_usable_blocks(recipe, model),
        family=model.hosts[0].family.name,
        steps=steps,
        run={
            "foreground": chosen.source,
            "foreground_detail": chosen.detail,
            "high_share": HIGH_SHARE,
            "observed_steps": recipe.steps.to_dict(),
            "steps": steps,
            "seed": first.seed,
            "settings": {name: value for name, value in sorted(fields.items()) if name not in _NOT_SETTINGS},
            "model": source.name,
            "pipeline": source.pipeline_class,
            "weights_sha256": _weights_sha256(source),
            "device": device.name,
            "dtype": device.dtype,
            "versions": package_versions(),
        },
        data={"data": data if data.startswith("scenes") else Path(data).name, "data_sha256": digest(pairs, chosen)},
    )


def _weights_sha256(source: ModelSource) -> str:
    """Of the transformer's files, so that measurements of a model that was trained on are not mixed; "" on the Hub."""
    if not source.is_local:
        return ""
    files = sorted(Path(source.location).glob("transformer*/*.safetensors"))
    digests = [sha256_of_file(file) for file in files or sorted(Path(source.location).glob("*.safetensors"))]
    return digests[0] if len(digests) == 1 else "+".join(digest[:12] for digest in digests)


def _usable_blocks(recipe: Recipe, model: Sketch) -> set[Block]:
    if recipe.steps.unit == "none":
        raise RecipeError(
            "The recipe's step window contains no step to watch; name another --preset or --steps-window."
        )
    everywhere = recipe.override(blocks="all")
    placements = [item.location for host in model.hosts for item in place(everywhere, host, model)]
    if not placements:
        raise RecipeError(
            f"The recipe's modulation {recipe.modulation.kind!r} acts on no block's keys, so that there are no "
            "blocks to choose; name another --preset."
        )
    return {Block(location.stack, location.block) for location in placements}
