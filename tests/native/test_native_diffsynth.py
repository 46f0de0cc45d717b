"""DiffSynth's pipelines, from its package (make test-hosts): real loops and classes, tiny and random."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import alignvid
from alignvid import StepWindow
from alignvid.errors import AttachmentError
from by_hand import Now, multiplied, scaled
from native_code import imported_from, needs

pytestmark = needs("DiffSynth")
GAMMA, STEPS, TEXT = 1.5, 6, 7
SIDE = 4  # of latents; a picture has (SIDE / 2)² tokens
PICTURE = SIDE * SIDE // 4


@dataclass
class Loop:
    """One pipeline, how it is called, and where each stream lies on the keys of each norm."""

    pipe: Any
    call: dict[str, Any]
    norms: tuple[str, ...]
    dim: int
    where: Callable[[str, str], tuple[int, int] | None]
    """From a target and the path of a norm: first and last token, None for none of them."""
    targets: tuple[str, ...]

    def run(self, **call: Any) -> Tensor:
        return self.pipe(
            prompt="", negative_prompt="", num_inference_steps=STEPS, progress_bar_cmd=lambda steps: steps,
            **self.call | call,
        )  # fmt: skip

    @property
    def models(self) -> list[nn.Module]:
        return [model for name in ("dit", "dit2") if (model := getattr(self.pipe, name, None)) is not None]

    def by_hand(self, target: str, acts: Callable[[float, bool], bool]) -> Tensor:
        now, inner = Now(), self.pipe.model_fn

        def noting(**given: Any) -> Any:
            now.acts = acts(float(given["timestep"]) / 1000.0, given["is_cond"])
            return inner(**given)

        def scale(path: str, keys: Tensor) -> Tensor:
            found = self.where(target, path)
            return keys if found is None else multiplied(keys, GAMMA, self.dim, *found)

        self.pipe.model_fn = noting
        try:
            return scaled(self.models, self.norms, scale, now, self.run)
        finally:
            self.pipe.model_fn = inner


def random_weights(*models: nn.Module) -> None:
    for model in models:
        for parameter in model.parameters():
            nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)


def given(pipe: Any, shared: dict[str, Any], cond: dict[str, Any], uncond: dict[str, Any]) -> None:
    """In place of its units, which run encoders: what they give; its TeaCache stays."""

    def process(pipe: Any, inputs_shared: Any, inputs_posi: Any, inputs_nega: Any) -> tuple[Any, Any, Any]:
        inputs_shared.update(shared)
        inputs_posi.update(cond, is_cond=True)
        inputs_nega.update(uncond, is_cond=False)
        return inputs_shared, inputs_posi, inputs_nega

    caches = [unit for unit in pipe.units if type(unit).__name__.endswith("TeaCache")]
    pipe.units = [SimpleNamespace(take_over=True, process=process), *caches]


def wan(loop_file: Any, experts: int = 1) -> Loop:
    torch.manual_seed(0)
    pipe = loop_file.WanVideoPipeline(device="cpu", torch_dtype=torch.float32)
    sizes = {"dim": 48, "ffn_dim": 64, "out_dim": 16, "text_dim": 32, "freq_dim": 16, "num_heads": 2, "num_layers": 3}
    models = [
        loop_file.WanModel(in_dim=36, eps=1e-6, patch_size=(1, 2, 2), has_image_input=experts == 1, **sizes).eval()
        for _ in range(experts)
    ]
    random_weights(*models)
    pipe.dit, pipe.dit2 = models[0], models[1] if experts > 1 else None
    pipe.vae = SimpleNamespace(decode=lambda latents, **_: latents)
    pipe.post_units = []
    shared = {"latents": torch.randn(1, 16, 2, SIDE, SIDE), "y": torch.randn(1, 20, 2, SIDE, SIDE)}
    if experts == 1:
        shared["clip_feature"] = torch.randn(1, 257, 1280)
    given(pipe, shared, {"context": torch.randn(1, TEXT, 32)}, {"context": torch.randn(1, TEXT, 32)})
    paths = {"self.video": "self_attn.norm_k", "cross.text": "cross_attn.norm_k", "cross.image": "norm_k_img"}
    tokens = {"self.video": 2 * PICTURE, "cross.text": TEXT, "cross.image": 257}

    def where(target: str, path: str) -> tuple[int, int] | None:
        return (0, tokens[target]) if path.endswith(paths[target]) else None

    targets = tuple(paths) if experts == 1 else tuple(paths)[:2]
    return Loop(pipe, {"output_type": "floatpoint"}, ("norm_k", "norm_k_img"), 1, where, targets)


def qwen_image(loop_file: Any, parts: Any) -> Loop:
    torch.manual_seed(0)
    pipe = loop_file.QwenImagePipeline(device="cpu", torch_dtype=torch.float32)
    dit = object.__new__(loop_file.QwenImageDiT)  # whose sizes are hard-coded
    nn.Module.__init__(dit)
    dit.pos_embed = parts.QwenEmbedRope(10000, [8, 12, 12], scale_rope=True)
    dit.time_text_embed = parts.TimestepEmbeddings(256, 64, diffusers_compatible_format=True, scale=1000)
    dit.txt_norm = parts.RMSNorm(32, eps=1e-6)
    dit.img_in, dit.txt_in, dit.proj_out = nn.Linear(64, 64), nn.Linear(32, 64), nn.Linear(64, 64)
    dit.transformer_blocks = nn.ModuleList(parts.QwenImageTransformerBlock(64, 2, 32) for _ in range(3))
    dit.norm_out = parts.AdaLayerNorm(64, single=True)
    random_weights(dit)
    pipe.dit = dit.eval()
    pipe.vae, pipe.vae_output_to_image = SimpleNamespace(decode=lambda latents, **_: latents), lambda image: image
    mask = torch.ones(1, TEXT, dtype=torch.long)
    cond, uncond = ({"prompt_emb": torch.randn(1, TEXT, 32), "prompt_emb_mask": mask} for _ in range(2))
    picture = torch.randn(1, 16, SIDE, SIDE)
    given(pipe, {"latents": torch.randn(1, 16, SIDE, SIDE), "edit_latents": [picture]}, cond, uncond)
    places = {"double.video": (0, PICTURE), "double.image": (PICTURE, 2 * PICTURE), "double.text": (0, TEXT)}

    def where(target: str, path: str) -> tuple[int, int] | None:
        return places[target] if path.endswith("norm_added_k") == (target == "double.text") else None

    call = {"height": 8 * SIDE, "width": 8 * SIDE}
    return Loop(pipe, call, ("norm_k", "norm_added_k"), 2, where, tuple(places))


def flux(loop_file: Any, parts: Any) -> Loop:
    torch.manual_seed(0)
    pipe = loop_file.FluxImagePipeline(device="cpu", torch_dtype=torch.float32)
    dit = object.__new__(loop_file.FluxDiT)  # whose sizes are hard-coded
    nn.Module.__init__(dit)
    dit.pos_embedder = parts.RoPEEmbedding(64, 10000, [8, 12, 12])
    dit.time_embedder, dit.guidance_embedder = (parts.TimestepEmbeddings(256, 64) for _ in range(2))
    dit.pooled_text_embedder, dit.context_embedder = nn.Linear(24, 64), nn.Linear(32, 64)
    dit.x_embedder, dit.final_proj_out = nn.Linear(64, 64), nn.Linear(64, 64)
    dit.blocks = nn.ModuleList(parts.FluxJointTransformerBlock(64, 2) for _ in range(2))
    dit.single_blocks = nn.ModuleList(parts.FluxSingleTransformerBlock(64, 2) for _ in range(2))
    dit.final_norm_out = parts.AdaLayerNormContinuous(64)
    random_weights(dit)
    pipe.dit = dit.eval()
    pipe.vae_decoder, pipe.vae_output_to_image = lambda latents, **_: latents, lambda image: image
    cond, uncond = ({"prompt_emb": torch.randn(1, TEXT, 32), "pooled_prompt_emb": torch.randn(1, 24)} for _ in range(2))
    ids = torch.zeros(1, PICTURE, 3)
    ids[..., 0] = 1
    shared = {
        "latents": torch.randn(1, 16, SIDE, SIDE), "guidance": torch.tensor([3.5]),
        "text_ids": torch.zeros(1, TEXT, 3), "image_ids": None, "kontext_latents": torch.randn(1, PICTURE, 64),
        "kontext_image_ids": ids,
    }  # fmt: skip
    given(pipe, shared, cond, uncond)
    single = {"text": (0, TEXT), "video": (TEXT, TEXT + PICTURE), "image": (TEXT + PICTURE, TEXT + 2 * PICTURE)}
    double = {"text": (0, TEXT), "video": (0, PICTURE), "image": (PICTURE, 2 * PICTURE)}

    def where(target: str, path: str) -> tuple[int, int] | None:
        site, stream = target.split(".")
        if path.startswith("single_blocks") != (site == "single"):
            return None
        if site == "double" and path.endswith("norm_k_b") != (stream == "text"):
            return None
        return (single if site == "single" else double)[stream]

    targets = tuple(f"{site}.{stream}" for site in ("double", "single") for stream in single)
    return Loop(pipe, {"cfg_scale": 3.0, "height": 32, "width": 32}, ("norm_k_a", "norm_k_b"), 2, where, targets)


@pytest.fixture(scope="module")
def package() -> Iterator[Any]:
    modules = ("wan_video", "qwen_image", "flux_image")
    files = [f"diffsynth.pipelines.{name}" for name in modules]
    models = [f"diffsynth.models.{name}" for name in ("qwen_image_dit", "flux_dit")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "modelscope", SimpleNamespace(snapshot_download=None))  # nothing is downloaded
        with imported_from("DiffSynth", *files, *models) as found:
            yield dict(zip((*modules, "qwen_parts", "flux_parts"), found, strict=True))


BUILT: dict[str, Callable[[Any], Loop]] = {
    "wan2.1": lambda package: wan(package["wan_video"]),
    "wan2.2": lambda package: wan(package["wan_video"], experts=2),
    "qwen-image": lambda package: qwen_image(package["qwen_image"], package["qwen_parts"]),
    "flux": lambda package: flux(package["flux_image"], package["flux_parts"]),
}


@pytest.fixture(params=BUILT)
def loop(request: pytest.FixtureRequest, package: Any) -> Loop:
    return BUILT[request.param](package)


@pytest.mark.parametrize(
    ("steps", "branch"),
    [("all", "both"), (StepWindow.noise_above(0.7), "both"), ((0.0, 0.5), "cond"), ((0.3, 0.7), "uncond")],
    ids=["all", "noise", "cond", "uncond"],
)
def test_every_stream_is_as_exact_as_keys_scaled_by_hand(loop: Loop, steps: Any, branch: str) -> None:
    plain = loop.run()
    levels = (loop.pipe.scheduler.timesteps / 1000.0).tolist()

    def acts(level: float, is_cond: bool) -> bool:
        step = min(range(STEPS), key=lambda step: abs(levels[step] - level))
        is_noisy = level > 0.7 if isinstance(steps, StepWindow) else True
        is_in = steps[0] <= step / STEPS < steps[1] if isinstance(steps, tuple) else is_noisy
        return is_in and (branch == "both" or is_cond == (branch == "cond"))

    for target in loop.targets:
        expected = loop.by_hand(target, acts)
        recipe = {"gamma": GAMMA, "blocks": "all", "steps": steps, "branch": branch, "streams": [target]}
        with alignvid.attach(loop.pipe, "generic", **recipe) as attachment:
            found = loop.run()
        assert not torch.equal(expected, plain), target
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert attachment.forward_count == 2 * STEPS
    assert torch.equal(loop.run(), plain)


@pytest.mark.parametrize("name", ["wan2.1", "flux"])
def test_teacache_runs_the_blocks_of_a_pass_where_its_gain_ends(package: Any, name: str) -> None:
    loop, ran = BUILT[name](package), []
    norm = next(module for path, module in loop.pipe.dit.named_modules() if path.endswith(loop.norms))
    hook = norm.register_forward_hook(lambda *_: ran.append(1))
    cache = {"tea_cache_l1_thresh": math.inf}
    if name == "wan2.1":
        cache["tea_cache_model_id"] = "Wan2.1-I2V-14B-480P"
    loop.run(**cache)
    alone, ran[:] = len(ran), []
    with alignvid.attach(loop.pipe, "generic", steps=(0.0, 0.5), branch="cond"):
        loop.run(**cache)
    hook.remove()
    if name == "wan2.1":
        assert (alone, len(ran)) == (4, 5)  # Flux has one cache for both passes, which counts forwards as steps
    assert len(ran) > alone


def test_in_bfloat16_the_steps_are_the_same(package: Any) -> None:
    loop = BUILT["wan2.1"](package)
    loop.pipe.torch_dtype = torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with alignvid.attach(loop.pipe, "generic", steps=(0.0, 0.5), branch="cond") as attachment:
            loop.run()
    assert attachment.active_forward_count == STEPS // 2


def test_both_branches_in_one_batch_are_refused(package: Any) -> None:
    loop = BUILT["wan2.1"](package)
    with alignvid.attach(loop.pipe, "generic"), pytest.raises(AttachmentError, match="cfg_merge=False"):
        loop.run(cfg_merge=True)


def test_the_proof_goes_through_its_door(package: Any) -> None:
    loop = BUILT["flux"](package)
    with alignvid.attach(loop.pipe, "generic", steps=(0.0, 0.3)) as attachment:
        loop.run()
        assert attachment.proof().has_changed_anything


@pytest.mark.parametrize("name", BUILT)
def test_attention_is_overheard_through_its_door_and_nothing_changes(package: Any, name: str) -> None:
    loop = BUILT[name](package)
    plain = loop.run()
    with alignvid.observe(loop.pipe, steps=(0.0, 0.5)) as trace:
        assert torch.equal(loop.run(), plain)
    assert torch.equal(loop.run(), plain) and not trace.problems
    entropy = [fact for fact in trace.facts if fact.measure == "entropy"]
    assert {(fact.step, fact.branch) for fact in entropy} == {
        (step, branch) for step in range(STEPS // 2) for branch in ("cond", "uncond")
    }
    streams = {stream for fact in entropy for stream in fact.keys.split("+")}
    assert streams == {target.partition(".")[2] for target in loop.targets}
