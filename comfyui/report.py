"""What a MODEL's last run did, in words and as data."""

from __future__ import annotations

import json
from typing import Any

from alignvid.blocks import BlockSet
from alignvid.errors import AttachmentError

from .host import Run
from .patch import Patch


def report_of(patch: Patch | None) -> tuple[str, dict[str, Any]]:
    """Words and data. Raises: AttachmentError if nothing acted, with the likely reason."""
    if patch is None:
        raise AttachmentError("This MODEL has been through no AlignVid node, so that nothing acted: connect its MODEL.")
    run = patch.run
    if run is None:
        raise AttachmentError(
            "Nothing was sampled with this MODEL yet: connect `after` to what the sampler gives, so that the report is "
            "made after the run, and the sampler to the same MODEL."
        )
    if not run.acted and patch.recipe.gamma != 1.0:
        raise AttachmentError(_why_nothing(patch, run))
    return _words(patch, run), _data(patch, run)


def _why_nothing(patch: Patch, run: Run) -> str:
    """The run is over and the gain multiplied nothing."""
    notes = " ".join(run.notes)
    if run.active_forwards:
        return (
            f"AlignVid {patch.attachment.name} was on in {run.active_forwards} of {run.forwards} forwards and "
            f"multiplied nothing. {notes}".strip()
        )
    return (
        f"AlignVid {patch.attachment.name} was on in none of {run.forwards} forwards ({_span(run)}): no pass of branch "
        f"{patch.recipe.branch!r} was run within {patch.recipe.steps}. {notes}".strip()
    )


def _words(patch: Patch, run: Run) -> str:
    lines = [
        _what(patch),
        f"Run {run.state}: {_span(run)}.",
        f"Acted at {_steps(run)}, in {run.active_forwards} of {run.forwards} forwards: {run.acted} times in "
        f"{patch.attachment.site_count} attentions.",
    ]
    if run.is_slice and patch.recipe.steps.unit == "fraction" and not patch.recipe.steps.is_all_or_none:
        lines.append(
            f"This sampler ran no whole schedule, and {patch.recipe.steps} was counted over its {len(run.levels)} "
            "steps alone; a window of noise levels, such as noise>0.9, is the same for each part."
        )
    if run.is_slice and patch.is_as_noise:
        lines.append(
            f"This sampler ran no whole schedule, so that the preset's window is taken as {patch.recipe.steps}: where "
            "the model's own schedule has these steps."
        )
    lines.append(_change(patch))
    return "\n".join([*lines, *(f"Note: {note}" for note in run.notes)])


def _what(patch: Patch) -> str:
    attachment = patch.attachment
    blocks = "; ".join(f"{chosen} of `{stack}`" for stack, chosen in attachment.blocks("diffusion_model").items())
    return (
        f"AlignVid {attachment.name}: {', '.join(attachment.actions)}; blocks {blocks}; {patch.recipe.steps}; "
        f"CFG branch {patch.recipe.branch}."
    )


def _span(run: Run) -> str:
    return f"{len(run.levels)} steps, noise level {run.levels[0]:.2f} to {run.levels[-1]:.2f}"


def _steps(run: Run) -> str:
    if not run.active_steps:
        return "no step"
    levels = [run.levels[step] for step in run.active_steps]
    steps = BlockSet.of(sorted(run.active_steps))
    return f"step {steps} (noise level {max(levels):.2f} to {min(levels):.2f})"


def _change(patch: Patch) -> str:
    if not patch.measures:
        return "By how much attention moved was not measured: switch `measure` on, which costs one forward a run."
    try:
        return f"{patch.attachment.proof()}."
    except AttachmentError as error:
        return str(error)


def _data(patch: Patch, run: Run) -> dict[str, Any]:
    data = {
        "name": patch.attachment.name,
        "recipe": patch.recipe.to_dict(),
        "blocks": patch.attachment.blocks("diffusion_model"),
        "gains": patch.attachment.gains,
        "run": {
            "state": run.state,
            "steps": len(run.levels),
            "noise_levels": run.levels,
            "is_slice": run.is_slice,
            "active_steps": sorted(run.active_steps),
            "forwards": run.forwards,
            "active_forwards": run.active_forwards,
            "acted": run.acted,
            "sites": patch.attachment.site_count,
            "notes": run.notes,
        },
    }
    if patch.measures and run.acted:
        data["proof"] = patch.attachment.proof().to_dict()
    return json.loads(json.dumps(data))
