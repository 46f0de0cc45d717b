"""What acts at the attention call of ComfyUI's real classes, against softmaxes written out by hand.

The reference computes the joint softmax itself, from the queries, keys and values that reach it, by its own knowledge
of the token order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from alignvid import ConflictAware, Energy, LogBias, Recipe, StepWindow
from alignvid.blocks import BlockSet
from alignvid.errors import AlignvidError
from alignvid.modulation import Dcag, Grag, RefKV
from comfyui_classes import CASES, Case, Span, aligned, built, patch, placed, run
from comfyui_pack import pack

watch = pack("watch")

Spans = Mapping[str, Span]
Written = Callable[[Tensor, Tensor, Tensor, Tensor, Spans], tuple[Tensor, Tensor]]
ODDS = 3.0


def spans_of(case: Case) -> dict[str, Span]:
    """Where each stream lies in the one softmax of a joint case."""
    found = {name.partition(".")[2]: next(iter(placed(case, spans).values())) for name, spans in case.spans.items()}
    return dict(sorted(found.items(), key=lambda item: item[1]))


JOINT = [
    name
    for name, case in CASES.items()
    if name != "ltx2" and not any(target.startswith(("cross.", "self.")) for target in case.spans)
]
"""Cases whose streams meet in one softmax."""
EDITED = [name for name in JOINT if any(target.endswith(".image") for target in CASES[name].spans)]


def written_out(spans: Spans, change: Written, acts: tuple[bool, ...] = (True,)) -> Callable[..., Tensor]:
    """An override that computes a softmax over as many keys as the streams have, as `change` wants its logits and
    values; for the samples of a batch that are acted on.
    """
    total = max(stop for _, stop in spans.values())

    def override(attention: Any, q: Tensor, k: Tensor, v: Tensor, *rest: Any, **given: Any) -> Tensor:
        are_apart = bool(given.get("skip_reshape"))
        if k.shape[2 if are_apart else 1] != total:
            return attention(q, k, v, *rest, **given)
        heads = rest[0] if rest else given["heads"]
        q, k, v = (part if are_apart else by_head(part, heads) for part in (q, k, v))
        mask = rest[1] if len(rest) > 1 else given.get("mask")
        assert mask is None or not mask.any() or mask.all()
        plain = (q.double() @ k.double().mT) / math.sqrt(q.shape[-1])
        logits, values = change(plain, q.double(), k.double(), v.double(), spans)
        on = torch.tensor(acts).repeat_interleave(len(q) // len(acts))[:, None, None, None]
        output = torch.where(on, logits.softmax(-1) @ values, plain.softmax(-1) @ v.double()).float()
        return output if given.get("skip_output_reshape") else output.transpose(1, 2).flatten(2)

    return override


def by_head(tokens: Tensor, heads: int) -> Tensor:
    return (tokens if tokens.ndim == 4 else tokens.unflatten(2, (heads, -1))).transpose(1, 2)


def biased(logits: Tensor, q: Tensor, k: Tensor, v: Tensor, spans: Spans) -> tuple[Tensor, Tensor]:
    start, stop = spans["text"]
    logits = logits.clone()
    logits[..., start:stop] += math.log(ODDS)
    return logits, v


def by_conflict(logits: Tensor, q: Tensor, k: Tensor, v: Tensor, spans: Spans) -> tuple[Tensor, Tensor]:
    weights = logits.softmax(-1)
    image, text = (weights[..., slice(*spans[name])].sum(-1) for name in ("image", "text"))
    entropy = -(weights * weights.log()).sum(-1) / math.log(logits.shape[-1])
    amount = ((image - text).clamp(min=0) / (image + text + 1e-6) * entropy).clamp(0, ODDS - 1)
    return logits * (1 + amount)[..., None], v


def spread(logits: Tensor, q: Tensor, k: Tensor, v: Tensor, spans: Spans) -> tuple[Tensor, Tensor]:
    part = slice(*spans["image"])
    k, v = k.clone(), v.clone()
    for tokens, factor in ((k, 0.5), (v, 1.5)):
        mean = tokens[:, :, part].mean(2, keepdim=True)
        tokens[:, :, part] = mean + factor * (tokens[:, :, part] - mean)
    return q @ k.mT / math.sqrt(q.shape[-1]), v


def weighted(logits: Tensor, q: Tensor, k: Tensor, v: Tensor, spans: Spans) -> tuple[Tensor, Tensor]:
    k, v = k.clone(), v.clone()
    for tokens in (k, v):
        tokens[:, :, slice(*spans["image"])] *= 0.5
    return q @ k.mT / math.sqrt(q.shape[-1]), v


def by_energy(logits: Tensor, q: Tensor, k: Tensor, v: Tensor, spans: Spans) -> tuple[Tensor, Tensor]:
    gain = 1 + (ODDS - 1) * torch.sigmoid(-logits.mean((2, 3)))
    logits = logits.clone()
    logits[..., slice(*spans["text"])] *= gain[..., None, None]
    return logits, v


def everywhere(modulation: Any, **more: Any) -> Recipe:
    return Recipe(modulation, BlockSet.of("all"), StepWindow.all(), **more)


KINDS: dict[str, tuple[Any, Written, list[str]]] = {
    "log-bias": (LogBias(ODDS), biased, JOINT),
    "energy": (Energy(ODDS, powers={"*.text": 1.0}, is_rotated=True), by_energy, JOINT),
    "conflict-aware": (ConflictAware(ODDS), by_conflict, EDITED),
    "dcag": (Dcag(key_spread=0.5, value_spread=1.5), spread, EDITED),
    "ref-kv": (RefKV(weight=0.5), weighted, EDITED),
}
NEUTRAL = {
    "log-bias": LogBias(1.0),
    "energy": Energy(1.0, powers={"*.text": 1.0}, is_rotated=True),
    "conflict-aware": ConflictAware(1.0),
    "dcag": Grag(key_spread=1.0),
    "ref-kv": RefKV(weight=1.0),
}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-6 * float(expected.abs().max()), rtol=1e-5)


@pytest.mark.parametrize("name", JOINT)
def test_what_acts_at_the_call_is_the_softmax_written_out(name: str) -> None:
    """In every block; neutral settings give the same bytes, as do the base MODEL and its other clones afterwards."""
    case = CASES[name]
    model, spans = built(case), spans_of(case)
    other, plain = model.clone(), run(model, case)
    for kind, (modulation, change, names) in KINDS.items():
        if name not in names:
            continue
        clone = aligned(model, recipe=everywhere(modulation))
        found = run(clone, case)
        expected = run(model, case, {"optimized_attention_override": written_out(spans, change)})
        assert found.isfinite().all() and not torch.equal(found, plain), kind
        close(found, expected)
        assert patch.patch_of(clone).run.acted == patch.patch_of(clone).attachment.site_count > 0
        assert not patch.patch_of(clone).run.notes, kind
        assert torch.equal(run(aligned(model, recipe=everywhere(NEUTRAL[kind])), case), plain), kind
        assert torch.equal(run(model, case), plain) and torch.equal(run(other, case), plain)


@pytest.mark.parametrize("kind", ["log-bias", "conflict-aware"])
def test_the_window_and_the_branch_are_honoured_in_one_batch(kind: str) -> None:
    case = CASES["flux"]
    both = case._replace(
        inputs={
            name: [(2, *one[1:]) for one in shape] if isinstance(shape, list) else shape and (2, *shape[1:])
            for name, shape in case.inputs.items()
        }
    )
    model, (modulation, change, _) = built(case), KINDS[kind]
    recipe = Recipe(modulation, BlockSet.of("all"), StepWindow.fraction(0.0, 0.5), branch="cond")
    clone, options = aligned(model, recipe=recipe), {"cond_or_uncond": [1, 0]}
    override = written_out(spans_of(case), change, (False, True))
    close(run(clone, both, options), run(model, both, {**options, "optimized_attention_override": override}))
    assert torch.equal(run(clone, both, options, step=3), run(model, both, options, step=3))
    assert torch.equal(run(clone, case, {"cond_or_uncond": [1]}), run(model, case))
    assert patch.patch_of(clone).run.active_steps == {0}


def test_an_override_that_is_there_runs_with_what_the_recipe_wants_and_several_act_in_order() -> None:
    """Of another kernel, set before this node or after it: the options hold it when the model runs."""
    case, seen = CASES["qwen_image"], []
    spans = spans_of(case)

    def kernel(attention: Any, q: Tensor, k: Tensor, v: Tensor, *rest: Any, **given: Any) -> Tensor:
        mask = given.get("mask", rest[1] if len(rest) > 1 else None)
        seen.append(None if mask is None else mask.shape[-1])
        return attention(q, k, v, *rest, **given)

    model = built(case)
    found = run(aligned(model, recipe=everywhere(LogBias(ODDS))), case, {"optimized_attention_override": kernel})
    close(found, run(model, case, {"optimized_attention_override": written_out(spans, biased)}))
    assert seen == [17, 17]

    def both(logits: Tensor, q: Tensor, k: Tensor, v: Tensor, spans: Spans) -> tuple[Tensor, Tensor]:
        logits, v = weighted(logits, q, k, v, spans)
        return biased(logits, q, k, v, spans)

    recipe = everywhere(RefKV(weight=0.5), then=(everywhere(LogBias(ODDS)),))
    joined = run(aligned(model, recipe=recipe), case, {"optimized_attention_override": kernel})
    expected = written_out(spans, both)
    close(joined, run(model, case, {"optimized_attention_override": expected}))


def test_a_kernel_that_does_nothing_with_a_mask_and_one_that_asks_nobody_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = CASES["flux"]
    model = built(case)
    clone = aligned(model, recipe=everywhere(LogBias(ODDS)))

    def blind(attention: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, **given: Any) -> Tensor:
        return attention(q, k, v, heads, **{**given, "mask": None})

    with pytest.raises(AlignvidError, match="takes a mask and does nothing with it") as caught:
        run(clone, case, {"optimized_attention_override": blind})
    assert "\n" not in str(caught.value)
    import comfy.ldm.flux.layers as layers

    plain = layers.attention
    monkeypatch.setattr(layers, "attention", lambda *args, transformer_options=None, **more: plain(*args, **more))
    for modulation in (LogBias(ODDS), ConflictAware(ODDS)):
        with pytest.raises(AlignvidError, match="were not seen"):
            run(aligned(model, recipe=everywhere(modulation)), case)


def test_sd35_attends_to_the_picture_once_more_and_that_is_left_alone() -> None:
    case = CASES["sd3"]
    case = case._replace(sizes={**case.sizes, "x_block_self_attn_layers": [0, 1]})
    model, spans = built(case), spans_of(case)
    expected = run(model, case, {"optimized_attention_override": written_out(spans, biased)})
    close(run(aligned(model, recipe=everywhere(LogBias(ODDS))), case), expected)


@pytest.mark.parametrize("name", ["flux", "hunyuan_video", "qwen_image", "sd3"])
def test_what_is_overheard_are_the_texts_keys(name: str) -> None:
    """Their share of the attention of all other queries, beside the softmax written out."""
    case, shares = CASES[name], []
    model, spans = built(case), spans_of(case)
    start, stop = spans["text"]

    def share(logits: Tensor, q: Tensor, k: Tensor, v: Tensor, spans: Spans) -> tuple[Tensor, Tensor]:
        words = logits.softmax(-1)[..., start:stop].sum(-1)
        shares.append(float(torch.cat([words[..., :start], words[..., stop:]], -1).mean()))
        return logits, v

    run(model, case, {"optimized_attention_override": written_out(spans, share)})
    watching = watch.watched(model)
    run(watching, case, key=watch.KEY)
    assert [item.words for item in watch.watch_of(watching).heard] == pytest.approx(shares, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "modulation", "reason"),
    [
        ("ltx_video", LogBias(ODDS), "alone in its softmax"),
        ("lumina2", ConflictAware(ODDS), "meets text and image keys at once"),
        ("lumina2", Energy(ODDS, powers={"single.text": 1.0}), "no key norm that can be looked at"),
        ("sd3", RefKV(weight=0.5), "image"),
    ],
)
def test_what_a_model_has_not_is_refused_in_one_sentence(name: str, modulation: Any, reason: str) -> None:
    with pytest.raises(AlignvidError, match=reason) as caught:
        aligned(built(CASES[name]), recipe=everywhere(modulation))
    assert "\n" not in str(caught.value)
