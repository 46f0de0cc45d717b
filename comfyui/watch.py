"""What attention does in a run, overheard: entropy, and the share that goes to the prompt's words, by block and step.

ComfyUI's attentions ask an override for their result; the watch lays one around the one that is there and looks at the
queries and keys that come, after norm and rotation and with whatever gain is on them. Which attention asks is known
by hooks on the family's attention modules, which are there in the forwards of this MODEL alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from alignvid.analysis.measures import attention_measures
from alignvid.analysis.sites import split_streams
from alignvid.errors import AttachmentError
from alignvid.host.sites import key_norms
from alignvid.host.transformers import Host, hosts

from .calls import OVERRIDE
from .host import Lent, Run

KEY = "alignvid_observe"
"""Of the wrappers, by which a node finds the watch of a MODEL again."""
_QUERIES = 128  # measured per attention and step, evenly spaced
_POSITIVE = 0  # ComfyUI's number of the positive prompt


class Heard(NamedTuple):
    """One softmax of one step, of the first sample of the positive prompt."""

    step: int
    noise_level: float
    stack: str
    block: int
    site: str
    keys: str
    """Streams that are looked at, such as "text" or "text, video"."""
    entropy: float
    """Mean over heads and queries, as a share of the largest possible one."""
    words: float | None
    """Mean share of the attention on the prompt's words; None where no text is looked at."""


class Place(NamedTuple):
    """One attention of one block."""

    stack: str
    block: int
    site: str
    is_joint: bool
    streams: tuple[str, ...]
    """Of its keys, in the order of its softmax."""


class Watch:
    """Overhears the forwards of one MODEL and of its clones."""

    def __init__(self, model: nn.Module) -> None:
        """`model`: ComfyUI's BaseModel. Raises: UnsupportedModel if no family describes its transformer."""
        self.heard: list[Heard] = []
        """Of the last run, or of the one that is running."""
        self._run: Run | None = None
        _places(hosts(Lent(model))[0])

    def around_sample(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """One call of a sampler."""
        self._run, self.heard = None, []
        try:
            return executor(*args, **kwargs)
        finally:
            self._run = None

    def around_forward(
        self,
        executor: Any,
        x: Any,
        t: Any,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **more: Any,
    ) -> Any:
        """One forward of the model; only what the positive prompt is in is looked at."""
        options = dict(transformer_options or {})
        prompts = options.get("cond_or_uncond", [_POSITIVE])
        if options.get("sample_sigmas") is None or _POSITIVE not in prompts:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **more)
        model = executor.class_obj
        if self._run is None or not self._run.has(options["sample_sigmas"]):
            self._run, self.heard = Run.of(options["sample_sigmas"], model.model_sampling), []
        step = self._run.step_of(float(t.flatten()[0]))
        ear = _Ear(
            hosts(Lent(model))[0],
            {"x": x, "timestep": t, "context": c_crossattn, "transformer_options": options, **more},
            (list(prompts).index(_POSITIVE), len(prompts)),
            lambda place, keys, entropy, words: self.heard.append(
                Heard(step, self._run.levels[step], place.stack, place.block, place.site, keys, entropy, words)  # type: ignore[union-attr]
            ),
        )
        with ear.listening(options):
            return executor(x, t, c_concat, c_crossattn, control, options, **more)


class _Ear:
    """Listens in one forward."""

    def __init__(
        self,
        host: Host,
        arguments: Mapping[str, Any],
        part: tuple[int, int],
        tell: Callable[[Place, str, float, float | None], None],
    ) -> None:
        self._host, self._arguments, self._part, self._tell = host, arguments, part, tell
        self._now: Place | None = None
        self._counts: Mapping[str, Any] | None = None
        text = arguments["context"]
        rows = text[len(text) // part[1] * part[0]]
        self._rows, self._words = len(rows), int(rows.abs().sum(-1).gt(0).sum())

    @contextmanager
    def listening(self, options: dict[str, Any]) -> Iterator[None]:
        """With an override in the options, and hooks on the attentions."""
        earlier = options.get(OVERRIDE)

        def override(attention: Any, q: Tensor, k: Tensor, v: Tensor, *rest: Any, **given: Any) -> Any:
            if self._now is not None:
                mask = rest[1] if len(rest) > 1 else given.get("mask")
                self._measure(self._now, *_by_head(q, k, rest, given), mask, given.get("scale"))
            if earlier is None:
                return attention(q, k, v, *rest, **given)
            return earlier(attention, q, k, v, *rest, **given)

        options[OVERRIDE] = override
        hooks = []
        for module, place in _places(self._host):
            hooks.append(module.register_forward_pre_hook(lambda *_, place=place: self._enter(place)))
            hooks.append(module.register_forward_hook(lambda *_: self._enter(None), always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, place: Place | None) -> None:
        self._now = place

    def _measure(self, place: Place, query: Tensor, key: Tensor, mask: Tensor | None, scale: Any) -> None:
        number, count = self._part
        sample = len(query) // count * number
        streams = self._streams_of(place, key.shape[2])
        lengths, words = self._with_words(streams)
        queries = _asking(streams, query.shape[2], key.shape[2])[:: -(-query.shape[2] // _QUERIES)]
        asked = query[sample : sample + 1, :, queries.to(query.device)]
        looks = _mask_of(mask, sample, len(query), queries)
        measured = attention_measures(asked, key[sample : sample + 1], stream_lengths=lengths, mask=looks, scale=scale)
        share = None if words is None else float(measured.mass[..., words].mean())
        names = ", ".join(name for name, _ in streams)
        self._tell(place, names, float(measured.normalised_entropy.mean()), share)

    def _streams_of(self, place: Place, keys: int) -> list[tuple[str, int]]:
        """Streams of the keys of one softmax, in order, with their lengths."""
        if not place.is_joint and len(place.streams) > 1:  # one softmax for each, as text and picture of Wan
            seen = self._arguments.get("clip_fea")
            return [("image" if seen is not None and seen.shape[-2] == keys else place.streams[0], keys)]
        if self._counts is None:
            self._counts = self._host.family.token_counts(self._host.transformer, self._arguments)
        return [(stream.name, stream.length) for stream in split_streams(place.streams, keys, self._counts)]

    def _with_words(self, streams: list[tuple[str, int]]) -> tuple[list[int], int | None]:
        """Lengths with the text cut into words and padding, where its rows are those of the prompt; and where the words
        are among them. ComfyUI pads with zeros, behind.
        """
        lengths: list[int] = []
        words = None
        for name, length in streams:
            if name == "text":
                words = len(lengths)
            is_padded = name == "text" and length == self._rows and 0 < self._words < length
            lengths += [self._words, length - self._words] if is_padded else [length]
        return lengths, words


def _places(host: Host) -> list[tuple[nn.Module, Place]]:
    found: dict[int, tuple[nn.Module, Place]] = {}
    for where in key_norms(host):
        site = where.attention_site
        streams = tuple(stream for keys in site.keys for stream in keys.streams)
        is_joint = site.is_joint or len(site.keys) == 1
        place = Place(where.stack, where.block, where.site, is_joint, site.joint_order or streams)
        found[id(where.attention)] = where.attention, place
    return list(found.values())


def _by_head(q: Tensor, k: Tensor, rest: tuple[Any, ...], given: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """(batch, heads, tokens, size), as ComfyUI gives them or flat."""
    if given.get("skip_reshape"):
        return q, k
    heads = rest[0] if rest else given["heads"]
    return tuple(tensor.unflatten(2, (heads, -1)).transpose(1, 2) for tensor in (q, k))  # type: ignore[return-value]


def _asking(streams: list[tuple[str, int]], queries: int, keys: int) -> Tensor:
    """Indices of the queries that are looked at: all but those of the text, where they are the tokens of the keys."""
    if queries != keys or len(streams) < 2:
        return torch.arange(queries)
    names = [name for name, length in streams for _ in range(length)]
    return torch.tensor([index for index, name in enumerate(names) if name != "text"])


def _mask_of(mask: Tensor | None, sample: int, samples: int, queries: Tensor) -> Tensor | None:
    """The part of a mask, with the axes that ComfyUI leaves out."""
    if mask is None:
        return None
    mask = mask[None] if mask.ndim == 2 else mask
    mask = mask[:, None] if mask.ndim == 3 else mask
    mask = mask[sample : sample + 1] if len(mask) == samples > 1 else mask[:1]
    return mask if mask.shape[2] == 1 else mask[:, :, queries.to(mask.device)]


def watch_of(patcher: Any) -> Watch | None:
    """The watch on a MODEL; None if there is none."""
    found = patcher.get_wrappers("apply_model", KEY)
    return cast(Watch, found[-1].__self__) if found else None


def watched(patcher: Any) -> Any:
    """A clone of a MODEL with a watch. Raises: AttachmentError if it has one."""
    if watch_of(patcher) is not None:
        raise AttachmentError("This MODEL has been through an AlignVid Observe node already: one is enough.")
    watch, clone = Watch(patcher.model), patcher.clone()
    clone.add_wrapper_with_key("outer_sample", KEY, watch.around_sample)
    clone.add_wrapper_with_key("apply_model", KEY, watch.around_forward)
    return clone


def heard_by(watch: Watch | None) -> list[Heard]:
    """What the last run gave. Raises: AttachmentError if there is nothing to show, with the reason."""
    if watch is None:
        raise AttachmentError("This MODEL has been through no AlignVid Observe node: connect its MODEL.")
    if not watch.heard:
        raise AttachmentError(
            "Nothing was overheard with this MODEL: connect `after` to what the sampler gives, and the sampler to the "
            "same MODEL; a model whose attentions take no override cannot be observed."
        )
    return watch.heard
