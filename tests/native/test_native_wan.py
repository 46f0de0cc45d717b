"""Wan's own loop: the stand-in always, the repositories' real classes and `generate` with make test-hosts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import alignvid
from alignvid import ConflictAware, FlowSchedule, StepWindow, presets
from alignvid.errors import AttachmentError
from alignvid.host import Host
from alignvid.host.fingerprint import fingerprint_of
from alignvid.models import family_of
from native_code import imported_from, needs, overheard
from native_wan import CLIP, SHIFT, STEPS, WanI2V

pytestmark = [  # of theirs: an older name, and CUDA's autocast on a machine without it
    pytest.mark.filterwarnings("ignore:.*torch.cuda.amp.autocast:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*device_type of 'cuda'.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning"),
]

GAMMA = 1.5


class Kind(NamedTuple):
    """One of the repositories' loops."""

    repository: str
    module: str
    loop: str
    model_type: str
    experts: tuple[str, ...] = ("model",)
    channels: int = 16
    frames: int = 5


EXPERTS = ("high_noise_model", "low_noise_model")
REAL = {
    "Wan2.1 i2v": Kind("Wan2.1", "image2video", "WanI2V", "i2v", channels=36),
    "Wan2.1 t2v": Kind("Wan2.1", "text2video", "WanT2V", "t2v"),
    "Wan2.1 flf2v": Kind("Wan2.1", "first_last_frame2video", "WanFLF2V", "flf2v", channels=36, frames=81),  # hard-coded
    "Wan2.2 i2v": Kind("Wan2.2", "image2video", "WanI2V", "i2v", EXPERTS, channels=36),
    "Wan2.2 t2v": Kind("Wan2.2", "text2video", "WanT2V", "t2v", EXPERTS),
    "Wan2.2 ti2v": Kind("Wan2.2", "textimage2video", "WanTI2V", "ti2v"),
}
KINDS = ["stand-in", *(pytest.param(name, marks=needs(kind.repository)) for name, kind in REAL.items())]


class Native:
    """A pipeline of Wan's own, its transformers, and one run of its loop."""

    def __init__(self, pipe: Any, transformers: dict[str, nn.Module], run: Callable[[], Tensor]) -> None:
        self.pipe, self.transformers, self.run = pipe, transformers, run

    def by_hand(self, factors: dict[str, float], acts: Callable[[float, bool], bool]) -> Tensor:
        """A run in which the keys of some norms are scaled by hooks, where a forward's level and pass say so."""
        now = SimpleNamespace(acts=False, count=0)
        hooks = []
        for model in self.transformers.values():
            hooks.append(model.register_forward_pre_hook(self._before(now, acts), with_kwargs=True))
            for block in model.blocks:
                for path, factor in factors.items():
                    norm = block.get_submodule(path)
                    hooks.append(
                        norm.register_forward_hook(lambda _, __, k, factor=factor: k * factor if now.acts else k)
                    )
        try:
            return self.run()
        finally:
            for hook in hooks:
                hook.remove()

    def _before(self, now: Any, acts: Callable[[float, bool], bool]) -> Any:
        def note(model: Any, args: Any, kwargs: Any) -> None:
            now.acts = acts(float(kwargs["t"].max()) / 1000.0, now.count % 2 == 0)
            now.count += 1

        return note


def real(kind: Kind, modules: Any) -> Native:
    """Wan's own classes, tiny and with random weights; text, CLIP and autoencoder as functions of their shapes."""
    model_file, loop_file = modules

    def attention(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:  # theirs asks for CUDA
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    model_file.flash_attention = attention
    torch.manual_seed(0)
    sizes = {"dim": 48, "ffn_dim": 64, "num_heads": 2, "num_layers": 4, "freq_dim": 16, "text_dim": 32}
    models = [
        model_file.WanModel(model_type=kind.model_type, in_dim=kind.channels, **sizes).eval() for _ in kind.experts
    ]
    for model in models:
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
    pipe = object.__new__(getattr(loop_file, kind.loop))
    embedded = {"a cat": torch.randn(7, 32), "ugly": torch.randn(5, 32)}
    seen = torch.randn(2 if kind.model_type == "flf2v" else 1, CLIP, 1280)
    vars(pipe).update(
        device=torch.device("cpu"), rank=0, t5_cpu=True, sp_size=1, num_train_timesteps=1000, init_on_cpu=False,
        param_dtype=torch.float32, vae_stride=(4, 8, 8), patch_size=(1, 2, 2), sample_neg_prompt="ugly", boundary=0.9,
        text_encoder=lambda texts, device: [embedded[text] for text in texts],
        clip=SimpleNamespace(model=nn.Identity(), visual=lambda pictures: seen),
        vae=SimpleNamespace(
            model=SimpleNamespace(z_dim=16),
            encode=lambda videos: [
                torch.ones(16, (videos[0].shape[1] + 3) // 4, *(size // 8 for size in videos[0].shape[-2:]))
            ],
            decode=lambda latents: latents,
        ),
    )  # fmt: skip
    vars(pipe).update(zip(kind.experts, models, strict=True))
    picture = Image.new("RGB", (32, 32), "orange")
    area = {"max_area": 32 * 32}
    call = {
        "t2v": {"size": (32, 32)},
        "i2v": {"img": picture} | area,
        "ti2v": {"img": picture} | area,
        "flf2v": {"first_frame": picture, "last_frame": picture} | area,
    }[kind.model_type]

    def run() -> Tensor:
        given = {"frame_num": kind.frames, "shift": SHIFT, "sampling_steps": STEPS, "seed": 3}
        return pipe.generate("a cat", offload_model=False, **call, **given)

    return Native(pipe, dict(zip(kind.experts, models, strict=True)), run)


@pytest.fixture(params=KINDS)
def native(request: pytest.FixtureRequest) -> Iterator[Native]:
    if request.param == "stand-in":
        pipe = WanI2V()
        yield Native(pipe, {"model": pipe.model}, pipe.generate)
        return
    kind = REAL[request.param]
    with imported_from(kind.repository, "wan.modules.model", f"wan.{kind.module}") as modules:
        yield real(kind, modules)


def streams_of(native: Native) -> dict[str, str]:
    """Path of the norm of a block, by target."""
    found = {"self.video": "self_attn.norm_k", "cross.text": "cross_attn.norm_k"}
    has_image_keys = hasattr(next(iter(native.transformers.values())).blocks[0].cross_attn, "norm_k_img")
    return found | ({"cross.image": "cross_attn.norm_k_img"} if has_image_keys else {})


WINDOWS = [
    ("all", lambda level, is_cond: True),
    (StepWindow.noise_above(0.9), lambda level, is_cond: level > 0.9),
    ((0.0, 0.5), None),
]


@pytest.mark.parametrize(("steps", "acts"), WINDOWS, ids=["all", "noise", "fraction"])
@pytest.mark.parametrize("branch", ["both", "cond", "uncond"])
def test_every_stream_is_as_exact_as_keys_scaled_by_hand(native: Native, steps: Any, acts: Any, branch: str) -> None:
    levels = sorted(FlowSchedule(STEPS, SHIFT).noise_levels, reverse=True)
    edge = (levels[STEPS // 2 - 1] + levels[STEPS // 2]) / 2
    in_window = acts or (lambda level, is_cond: level > edge)

    def both(level: float, is_cond: bool) -> bool:
        return in_window(level, is_cond) and branch in ("both", "cond" if is_cond else "uncond")

    plain = native.run()
    for target, path in streams_of(native).items():
        expected = native.by_hand({path: GAMMA}, both)
        recipe = {"gamma": GAMMA, "blocks": "all", "steps": steps, "branch": branch, "streams": [target]}
        with alignvid.attach(native.pipe, "generic", schedule=FlowSchedule(STEPS, SHIFT), **recipe) as attachment:
            found = native.run()
        assert not torch.equal(expected, plain), target
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
        assert attachment.forward_count > 0
    assert torch.equal(native.run(), plain)


@needs("Wan2.1")
@pytest.mark.parametrize("native", ["Wan2.1 i2v"], indirect=True)
def test_conflict_aware_scaling_is_its_formula_in_their_cross_attention(native: Native) -> None:
    """Over the keys of picture and text together, of which the text's are the last 512."""

    def scaled(queries: Tensor, attention: Any, context: Tensor) -> Tensor:
        picture, text = context[:, :-512], context[:, -512:]
        parts = attention.norm_k_img(attention.k_img(picture)), attention.norm_k(attention.k(text))
        heads = attention.num_heads
        q, k = (part.unflatten(2, (heads, -1)).transpose(1, 2).double() for part in (queries, torch.cat(parts, 1)))
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        image, words = (part.sum(-1) for part in weights.split([picture.shape[1], text.shape[1]], -1))
        entropy = -torch.special.xlogy(weights, weights).sum(-1) / math.log(weights.shape[-1])
        amount = ((image - words).clamp(min=0) / (image + words + 1e-6) * entropy).clamp(0, 2.0)
        return (q * (1 + amount[..., None])).transpose(1, 2).flatten(2).to(queries.dtype)

    now: dict[str, Any] = {}
    hooks = []
    for block in native.transformers["model"].blocks:
        cross = block.cross_attn
        cross.norm_k_img.weight.data.mul_(60.0)  # so that the picture outweighs 512 tokens of text
        hooks.append(cross.register_forward_pre_hook(lambda module, args: now.update(asked=(module, args[1]))))
        hooks.append(cross.norm_q.register_forward_hook(lambda _, __, queries: scaled(queries, *now["asked"])))
    expected = native.run()
    for hook in hooks:
        hook.remove()
    with alignvid.attach(native.pipe, ConflictAware(3.0), blocks="all", steps="all"):
        found = native.run()
    assert not torch.equal(expected, native.run())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_window_without_a_schedule_is_refused(native: Native) -> None:
    with alignvid.attach(native.pipe, "generic", steps=(0.0, 0.3)):
        with pytest.warns(UserWarning, match="schedule"):
            native.run()


def test_a_run_of_another_length_than_was_said_is_refused(native: Native) -> None:
    with alignvid.attach(native.pipe, "generic", schedule=FlowSchedule(STEPS + 3, SHIFT), steps=(0.0, 0.3)):
        with pytest.raises(AttachmentError, match="schedule"):
            native.run()


def preset_of(model: nn.Module) -> str:
    return presets.find(fingerprint_of(Host("model", model, model, family_of(model)))).name


def test_the_model_of_wan_is_known_by_its_sizes(native: Native) -> None:
    attachment = alignvid.attach(native.pipe, schedule=FlowSchedule(STEPS, SHIFT))
    assert "generic" in attachment.name  # four blocks are no 14B model
    attachment.detach()


def test_at_the_released_sizes_the_stand_in_has_the_papers_preset() -> None:
    model = WanI2V().model
    model.blocks = nn.ModuleList(model.blocks[0] for _ in range(40))
    model.num_heads, model.dim = 40, 5120
    assert preset_of(model) == "wan2.1-i2v-14b:released"


@needs("Wan2.1")
def test_at_the_released_sizes_wans_own_class_has_the_papers_preset() -> None:
    with imported_from("Wan2.1", "wan.modules.model") as (model_file,), torch.device("meta"):
        model = model_file.WanModel("i2v", in_dim=36, dim=5120, ffn_dim=13824, num_heads=40, num_layers=40)
        assert preset_of(model) == "wan2.1-i2v-14b:released"


def test_attention_is_overheard_and_nothing_changes(native: Native) -> None:
    entropy = overheard(native.run, native.pipe, StepWindow.noise_above(0.9))
    assert {f"{fact.site}.{fact.keys}" for fact in entropy} == set(streams_of(native))
    assert all(fact.noise_level > 0.9 for fact in entropy)
