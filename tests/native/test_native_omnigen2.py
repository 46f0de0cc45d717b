"""OmniGen2's own transformer in its own pipeline, from a checkout (make test-hosts)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

import alignvid
from alignvid import StepWindow
from by_hand import Now, multiplied, scaled
from native_code import imported_from, needs, overheard

pytestmark = needs("OmniGen2")
GAMMA, STEPS = 1.5, 6
TEXT, IMAGE, VIDEO = 7, 8, 8  # tokens, in this order
STREAMS = {"text": (0, TEXT), "image": (TEXT, TEXT + IMAGE), "video": (TEXT + IMAGE, TEXT + IMAGE + VIDEO)}


class Native:
    """The real pipeline, with real classes that are tiny and random; text as a function of nothing."""

    def __init__(self, pipeline_file: Any, scheduler_file: Any) -> None:
        torch.manual_seed(0)
        self.model = pipeline_file.OmniGen2Transformer2DModel(
            hidden_size=48, num_layers=3, num_refiner_layers=1, num_attention_heads=4, num_kv_heads=2, multiple_of=16,
            axes_dim_rope=(4, 4, 4), axes_lens=(64, 64, 64), text_feat_dim=24,
        ).eval()  # fmt: skip
        for parameter in self.model.parameters():
            nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
        vae = AutoencoderKL(
            block_out_channels=(4,) * 4, norm_num_groups=2, latent_channels=16,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        ).eval()  # fmt: skip
        vae.decode = lambda latents, return_dict: (latents,)
        scheduler = scheduler_file.FlowMatchEulerDiscreteScheduler()
        self.pipe = pipeline_file.OmniGen2Pipeline(self.model, vae, scheduler, None, None)
        self.pipe.set_progress_bar_config(disable=True)
        self.prompt, self.negative = torch.randn(1, TEXT, 24), torch.randn(1, TEXT, 24)
        mask = torch.ones(1, TEXT, dtype=torch.long)
        self.pipe.encode_prompt = lambda *_, **__: (self.prompt, mask, self.negative, mask)

    def run(self, text_guidance: float = 4.0, image_guidance: float = 1.0, steps: int = STEPS) -> Tensor:
        torch.manual_seed(1)  # the autoencoder samples
        return self.pipe(
            prompt="a cat", input_images=[Image.new("RGB", (64, 32), "orange")], num_inference_steps=steps,
            text_guidance_scale=text_guidance, image_guidance_scale=image_guidance, output_type="latent",
            generator=torch.Generator().manual_seed(2),
        ).images  # fmt: skip

    def by_hand(self, stream: str, acts: Any, **guidance: float) -> Tensor:
        now = Now()

        def note(model: Any, args: tuple[Any, ...], kwargs: Any) -> None:
            now.acts = acts(1.0 - float(args[1][0]), args[2] is self.prompt)
            self.image = IMAGE if kwargs["ref_image_hidden_states"] is not None else 0

        def scale(path: str, keys: Tensor) -> Tensor:
            start, stop = STREAMS[stream]
            if not self.image and stream != "text":  # the third pass has no reference
                start, stop = (TEXT, TEXT) if stream == "image" else (TEXT, TEXT + VIDEO)
            return multiplied(keys, GAMMA, 1, start, stop)

        hook = self.model.register_forward_pre_hook(note, with_kwargs=True)
        try:
            return scaled([self.model.layers], ("norm_k",), scale, now, lambda: self.run(**guidance))
        finally:
            hook.remove()

    @property
    def levels(self) -> list[float]:
        return (1.0 - self.pipe.scheduler.timesteps).tolist()


@pytest.fixture(scope="module")
def native() -> Iterator[Native]:
    modules = (
        "omnigen2.pipelines.omnigen2.pipeline_omnigen2",
        "omnigen2.schedulers.scheduling_flow_match_euler_discrete",
    )
    with imported_from("OmniGen2", *modules) as (pipeline_file, scheduler_file):
        yield Native(pipeline_file, scheduler_file)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    ("steps", "branch", "guidance"),
    [
        ("all", "both", {}),
        (StepWindow.noise_above(0.5), "both", {}),
        ((0.0, 0.5), "both", {"text_guidance": 1.0}),
        ((0.0, 0.5), "cond", {}),
        ((0.0, 0.5), "cond", {"image_guidance": 1.5}),
        ((0.0, 0.5), "uncond", {"image_guidance": 1.5}),
    ],
    ids=["all", "noise", "one pass", "cond", "three passes, cond", "three passes, uncond"],
)
def test_every_stream_is_as_exact_as_keys_scaled_by_hand(
    native: Native, stream: str, steps: Any, branch: str, guidance: dict[str, float]
) -> None:
    plain, levels = native.run(**guidance), native.levels
    edge = 0.5 if isinstance(steps, StepWindow) else (levels[STEPS // 2 - 1] + levels[STEPS // 2]) / 2

    def acts(level: float, is_cond: bool) -> bool:
        in_branch = branch == "both" or is_cond == (branch == "cond")
        return (steps == "all" or level > edge) and in_branch

    expected = native.by_hand(stream, acts, **guidance)
    recipe = {"gamma": GAMMA, "blocks": "all", "steps": steps, "branch": branch, "streams": [stream]}
    with alignvid.attach(native.pipe, "generic", **recipe):
        found = native.run(**guidance)
    assert not torch.equal(expected, plain)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)  # of up to 6
    assert torch.equal(native.run(**guidance), plain)


def blocks_run(native: Native, **guidance: Any) -> list[list[int]]:
    """Steps in which the blocks ran, by pass."""
    ran: list[list[int]] = [[], []]
    now: dict[str, Any] = {}

    def note(model: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        step = min(range(len(native.levels)), key=lambda step: abs(native.levels[step] - 1.0 + float(args[1][0])))
        now.update(step=step, order=0 if args[2] is native.prompt else 1)

    hooks = [
        native.model.register_forward_pre_hook(note, with_kwargs=True),
        native.model.layers[0].attn.register_forward_hook(lambda *_: ran[now["order"]].append(now["step"])),
    ]
    try:
        native.run(**guidance)
    finally:
        for hook in hooks:
            hook.remove()
    return ran


def test_teacache_runs_the_blocks_of_a_pass_where_its_gain_ends(native: Native) -> None:
    native.model.enable_teacache, native.model.teacache_rel_l1_thresh = True, math.inf
    try:
        assert blocks_run(native) == [[0, STEPS - 1], [0, STEPS - 1]]
        with alignvid.attach(native.pipe, "generic", steps=(0.0, 0.5), branch="cond"):
            assert blocks_run(native) == [[0, STEPS // 2, STEPS - 1], [0, STEPS - 1]]
    finally:
        native.model.enable_teacache = False


def test_taylorseer_runs_the_blocks_of_a_pass_where_its_gain_ends(native: Native) -> None:
    native.pipe.enable_taylorseer = True
    try:
        alone = blocks_run(native, steps=12)
        with alignvid.attach(native.pipe, "generic", steps=(0.0, 0.5), branch="cond"):
            found = blocks_run(native, steps=12)
    finally:
        native.pipe.enable_taylorseer = native.model.enable_taylorseer = False
        for layer in native.model.layers:
            layer.enable_taylorseer = False
    assert 6 not in alone[0] and 6 in found[0]
    assert found[1] == alone[1]


def test_attention_is_overheard_and_nothing_changes(native: Native) -> None:
    entropy = overheard(native.run, native.pipe, (0.0, 0.5))
    assert {(fact.branch, fact.keys) for fact in entropy} == {
        ("cond", "text+image+video"),
        ("uncond", "text+video"),  # which has no reference
    }
    assert {(fact.step, fact.branch) for fact in entropy} == {(s, b) for s in range(3) for b in ("cond", "uncond")}
