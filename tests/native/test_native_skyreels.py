"""SkyReels-V2's own transformer in its own pipelines, from a checkout (make test-hosts)."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import alignvid
from alignvid import StepWindow
from by_hand import Now, scaled
from native_code import imported_from, needs, overheard

pytestmark = [
    needs("SkyReels-V2"),  # of theirs: an older name, and CUDA's autocast on a machine without it
    pytest.mark.filterwarnings("ignore:.*torch.cuda.amp.autocast:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*device_type of 'cuda'.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning"),
]
GAMMA, STEPS = 1.5, 6
PATHS = {"self.video": "self_attn.norm_k", "cross.text": "cross_attn.norm_k", "cross.image": "norm_k_img"}


class Native:
    """Image-to-video, real classes, tiny and random; encoders as functions of their shapes."""

    def __init__(self, model_file: Any, loop_file: Any) -> None:
        def attention(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:  # theirs asks for CUDA
            q, k, v = (t.transpose(1, 2).to(v.dtype) for t in (q, k, v))
            return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)

        model_file.flash_attention = attention
        torch.manual_seed(0)
        self.model = model_file.WanModel(
            model_type="i2v", in_dim=36, dim=48, ffn_dim=64, freq_dim=16, text_dim=32, num_heads=2, num_layers=3
        ).eval()
        for parameter in self.model.parameters():
            nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
        self.pipe = object.__new__(loop_file.Image2VideoPipeline)
        self.texts = {"a cat": torch.randn(1, 512, 32), "ugly": torch.randn(1, 512, 32)}
        seen = torch.randn(1, 257, 1280)
        moved = {"to": lambda device: None}
        vars(self.pipe).update(
            transformer=self.model, device="cpu", offload=False, sp_size=1,
            scheduler=loop_file.FlowUniPCMultistepScheduler(),
            video_processor=loop_file.VideoProcessor(vae_scale_factor=16),
            text_encoder=SimpleNamespace(encode=lambda text: self.texts[text], **moved),
            clip=SimpleNamespace(encode_video=lambda picture: seen, **moved),
            vae=SimpleNamespace(
                encode=lambda video: torch.ones(1, 16, 2, *(size // 8 for size in video.shape[-2:])),
                decode=self._decode,
            ),
        )  # fmt: skip

    def _decode(self, latents: Tensor) -> Tensor:
        self.latents = latents.clone()
        return torch.zeros(1, 3, 1, 1, 1)

    def run(self) -> Tensor:
        self.pipe(
            Image.new("RGB", (32, 32), "orange"), "a cat", "ugly", height=32, width=32, num_frames=5,
            num_inference_steps=STEPS, generator=torch.Generator().manual_seed(3),
        )  # fmt: skip
        return self.latents

    def by_hand(self, target: str, acts: Any) -> Tensor:
        now = Now()

        def note(model: Any, args: Any, kwargs: Any) -> None:
            now.acts = acts(float(kwargs["t"].max()) / 1000.0, kwargs["context"] is self.texts["a cat"])

        hook = self.model.register_forward_pre_hook(note, with_kwargs=True)
        try:
            return scaled([self.model], (PATHS[target],), lambda _, keys: keys * GAMMA, now, self.run)
        finally:
            hook.remove()


@pytest.fixture(scope="module")
def native() -> Iterator[Native]:
    patched = pytest.MonkeyPatch()
    patched.setattr(torch, "compile", lambda function=None, **_: function or (lambda inner: inner))
    with imported_from("SkyReels-V2", "skyreels_v2_infer.pipelines.image2video_pipeline") as (loop_file,):
        patched.undo()
        yield Native(sys.modules["skyreels_v2_infer.modules.transformer"], loop_file)


@pytest.mark.parametrize("target", PATHS)
@pytest.mark.parametrize(
    ("steps", "branch"),
    [("all", "both"), (StepWindow.noise_above(0.9), "both"), ((0.0, 0.5), "cond"), ((0.0, 0.5), "uncond")],
    ids=["all", "noise", "cond", "uncond"],
)
def test_every_stream_is_as_exact_as_keys_scaled_by_hand(native: Native, target: str, steps: Any, branch: str) -> None:
    plain = native.run()
    levels = (native.pipe.scheduler.timesteps / 1000.0).tolist()
    edge = 0.9 if isinstance(steps, StepWindow) else (levels[STEPS // 2 - 1] + levels[STEPS // 2]) / 2

    def acts(level: float, is_cond: bool) -> bool:
        return (steps == "all" or level > edge) and (branch == "both" or is_cond == (branch == "cond"))

    expected = native.by_hand(target, acts)
    recipe = {"gamma": GAMMA, "blocks": "all", "steps": steps, "branch": branch, "streams": [target]}
    with alignvid.attach(native.pipe, "generic", **recipe) as attachment:
        found = native.run()
    assert not torch.equal(expected, plain) and attachment.forward_count == 2 * STEPS
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(native.run(), plain)


def test_teacache_runs_the_blocks_where_the_gain_ends(native: Native) -> None:
    ran: list[int] = []
    hook = native.model.blocks[0].register_forward_hook(lambda *_: ran.append(native.model.cnt))
    settings = {"num_steps": 2 * STEPS, "teacache_thresh": math.inf, "ckpt_dir": "I2V-14B-540P"}
    try:
        native.model.initialize_teacache(**settings)
        native.run()
        alone, ran[:] = list(ran), []
        native.model.initialize_teacache(**settings)
        with alignvid.attach(native.pipe, "generic", steps=(0.0, 0.5)):
            native.run()
    finally:
        hook.remove()
        native.model.enable_teacache = False
    assert [count // 2 for count in alone] == [0, 0]  # it counts forwards as steps, and takes none for the last
    assert [count // 2 for count in ran] == [0, 0, STEPS // 2, STEPS // 2]


def test_attention_is_overheard_and_nothing_changes(native: Native) -> None:
    entropy = overheard(native.run, native.pipe, (0.0, 0.5))
    assert {f"{fact.site}.{fact.keys}" for fact in entropy} == set(PATHS)
    assert {fact.step for fact in entropy} == set(range(STEPS // 2))
