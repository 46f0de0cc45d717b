"""The pack against a small stand-in of ComfyUI's interfaces, in the ordinary suite: wrappers, clones, schedules.

What ComfyUI's own classes do with it is shown by the tests beside this file that `make test-comfyui` runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alignvid.errors import AlignvidError
from alignvid.models import Family, KeyNorm, Site, Stack
from alignvid.models import registry as families
from comfyui_interfaces import CONST, Executor, Patcher, wrapped
from comfyui_pack import FOLDER, pack
from plain_model import PlainVideoModel, plain_model

host, patch, settings, report = pack("host"), pack("patch"), pack("settings"), pack("report")
STEPS, GAMMA = 10, 1.5
SITES = (
    Site("self", "self_attn", (KeyNorm("norm_k", ("video",)),)),
    Site("cross", "cross_attn", (KeyNorm("norm_k", ("text",)),)),
)


class Base(nn.Module):
    """Holds the transformer and its clones share it, as ComfyUI's BaseModel."""

    def __init__(self) -> None:
        super().__init__()
        self.diffusion_model, self.inputs = plain_model()
        self.model_sampling = CONST()


def levels() -> Tensor:
    even = 1 - torch.arange(STEPS + 1) / STEPS
    return 3 * even / (1 + 2 * even)


@torch.no_grad()
def run(
    patcher: Patcher,
    *,
    by_hand: Any = None,
    stop_at: int = STEPS,
    together: bool = False,
    part: slice = slice(None),
) -> Tensor:
    """Ten steps with guidance, in two forwards a step or in one batch of both; or a part of them."""
    model = patcher.model
    prompt = model.inputs["context"]

    def forward(x: Any, t: Any, c_concat: Any, context: Any, control: Any, options: Any, **_: Any) -> Tensor:
        if by_hand is not None:
            by_hand(float(t[0]), options["cond_or_uncond"])
        return model.diffusion_model(x, t, context)

    def sample() -> Tensor:
        latents, sigmas = model.inputs["x"], levels()[part]
        for step in range(len(sigmas) - 1):
            if step == stop_at:
                raise KeyboardInterrupt
            time = sigmas[step : step + 1].repeat(len(latents))
            options = {"sample_sigmas": sigmas, "sigmas": time}
            apply = wrapped(patcher, "apply_model", model, forward)
            if together:
                both = torch.cat([latents] * 2), torch.cat([time] * 2), None, torch.cat([-prompt, prompt]), None
                negative, positive = apply(*both, {**options, "cond_or_uncond": [1, 0]}).chunk(2)
            else:
                positive, negative = (
                    apply(latents, time, None, context, None, {**options, "cond_or_uncond": [number]})
                    for number, context in enumerate((prompt, -prompt))
                )
            latents = latents - 0.1 * (negative + 3.0 * (positive - negative))
        return latents

    return wrapped(patcher, "outer_sample", None, sample)()


def hand(model: Base, acts: Callable[[float, int], bool]) -> tuple[Any, list[Any]]:
    """What notes the forward that is running, and hooks that multiply its text keys."""
    now: list[bool] = []

    def note(sigma: float, numbers: list[int]) -> None:
        now[:] = [acts(sigma, number) for number in numbers]

    def scale(_: nn.Module, __: Any, keys: Tensor) -> Tensor:
        parts = keys.chunk(len(now))
        return torch.cat([part * GAMMA if is_on else part for part, is_on in zip(parts, now, strict=True)])

    norms = [block.cross_attn.norm_k for block in model.diffusion_model.trunk.blocks]
    return note, [norm.register_forward_hook(scale) for norm in norms]


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Base:
    name = f"{PlainVideoModel.__module__}:PlainVideoModel"
    family = Family("comfyui_plain", (name,), (Stack("trunk.blocks", SITES),), time=pack("families")._TIME)
    monkeypatch.setattr(families, "_registered", {"comfyui_plain": family})
    return Base()


def aligned(base: Base, **widgets: Any) -> Patcher:
    given = {"strength": "gamma", "gamma": GAMMA, "blocks": "all", "streams": "cross.text", "steps": "all", **widgets}
    return patch.patched(
        Patcher(base), lambda lent: settings.attached(lent, "auto", None, proof=True, **given), measures=True
    )[0]


@pytest.mark.parametrize("together", [False, True], ids=["two-forwards", "one-batch"])
@pytest.mark.parametrize(
    ("steps", "branch", "acts"),
    [
        ("0.0-0.3", "both", lambda sigma, number: sigma > levels()[3]),
        ("noise>0.8", "cond", lambda sigma, number: sigma > 0.8 and number == 0),
        ("all", "uncond", lambda sigma, number: number == 1),
    ],
)
def test_it_is_as_exact_as_keys_scaled_by_hand(base: Base, steps: str, branch: str, acts: Any, together: bool) -> None:
    plain = run(Patcher(base), together=together)
    note, hooks = hand(base, acts)
    expected = run(Patcher(base), by_hand=note, together=together)
    for hook in hooks:
        hook.remove()
    clone = aligned(base, steps=steps, branch=branch)
    assert "(withdrawn)" in str(patch.patch_of(clone).attachment)
    for _ in range(2):
        torch.testing.assert_close(run(clone, together=together), expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(run(Patcher(base), together=together), plain) and not torch.equal(expected, plain)
    assert patch.patch_of(clone).run.forwards == STEPS * (1 if together else 2)


def test_a_neutral_gain_is_bit_equal_and_an_interruption_leaves_the_model_plain(base: Base) -> None:
    plain, types = run(Patcher(base)), [type(module) for module in base.modules()]
    assert torch.equal(run(aligned(base, gamma=1.0)), plain)
    clone = aligned(base)
    with pytest.raises(KeyboardInterrupt):
        run(clone, stop_at=4)
    assert patch.patch_of(clone).run.state == "stopped by KeyboardInterrupt"
    assert [type(module) for module in base.modules()] == types and torch.equal(run(Patcher(base)), plain)


def test_the_report_says_what_acted(base: Base) -> None:
    clone = aligned(base, steps="0.0-0.3")
    run(clone.clone())
    words, data = report.report_of(patch.patch_of(clone))
    assert "step 0-2" in words and "changed the output of 3 of 3" in words and data["run"]["acted"] == 3 * 3 * 2


def test_in_a_part_of_a_schedule_the_presets_window_is_one_of_noise_levels(base: Base) -> None:
    given = {"strength": "gamma", "gamma": GAMMA, "blocks": "all", "streams": "cross.text", "steps": ""}
    clone, found = patch.patched(
        Patcher(base),
        lambda lent: settings.attached(lent, "generic:generic", None, proof=False, **given),
        in_part=settings.in_part("generic:generic", proof=False, **given),
    )
    note, hooks = hand(base, lambda sigma, number: sigma > levels()[3])  # the first 30 % of the whole
    expected = [run(Patcher(base), by_hand=note, part=part) for part in (slice(0, 6), slice(5, None), slice(None))]
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(run(clone, part=slice(0, 6)), expected[0], atol=1e-6, rtol=1e-6)
    assert found.run.active_steps == {0, 1, 2} and "noise level >" in report.report_of(found)[0]
    assert torch.equal(run(clone, part=slice(5, None)), expected[1]) and not found.run.active_steps
    torch.testing.assert_close(run(clone), expected[2], atol=1e-6, rtol=1e-6)
    assert found.recipe.steps.unit == "fraction"


@pytest.mark.parametrize(
    ("sigma", "step"), [(1.0, 0), (0.9999999, 0), (0.97, 0), (0.9642857, 1), (0.5, 7), (0.01, 9), (2.0, 0)]
)
def test_a_forward_between_two_steps_belongs_to_the_one_that_has_begun(sigma: float, step: int) -> None:
    assert host.Run.of(levels(), CONST()).step_of(sigma) == step


def test_a_forward_without_a_schedule_is_refused(base: Base) -> None:
    wrapper = aligned(base).get_wrappers("apply_model", "alignvid")[0]
    with pytest.raises(AlignvidError, match="does not say its schedule"):
        wrapper(Executor(base, lambda *_: None, []), base.inputs["x"], torch.ones(1), None, None, None, {})


def test_no_code_of_the_pack_but_its_nodes_and_its_miniature_imports_comfyui() -> None:
    found = {path.name for path in Path(FOLDER).glob("*.py") if "import comfy" in path.read_text(encoding="utf-8")}
    assert found | {"nodes.py"} == {"miniature.py", "nodes.py"}


def test_the_example_workflows_are_as_their_descriptions() -> None:
    import subprocess
    import sys

    script = Path(FOLDER).parent / "docs" / "comfyui_workflows.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
