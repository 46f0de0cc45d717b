"""The words in which a transformer family is described: stacks of blocks, attention sites, key norms and their streams.

A family is data. It says where the keys of each stream leave a norm, and in which order the streams lie on its output.
docs/concepts.md explains the words; docs/families.md is a worked example.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Arguments = Mapping[str, Any]
"""Arguments of a transformer's forward, by name."""

UNCONDITIONAL = "unconditional_transformer"
"""Attribute of a pipeline that has a transformer of its own for the unconditional pass."""


class Grid(NamedTuple):
    """How tokens of a stream lie in pictures: each has some tokens before its grid, then rows of columns."""

    before: int
    """Tokens before the grid, such as CLIP's class token."""
    height: int
    width: int


class ReferenceChannels(NamedTuple):
    """Where a transformer's input holds the latents of the reference image."""

    path: str
    """Attribute of the transformer: the module that the input (batch, channels, frames, height, width) goes into."""
    start: int
    stop: int


@dataclass(frozen=True)
class KeyNorm:
    """A norm that the keys of one attention pass just before the attention; or, without one, their projection."""

    path: str
    """Attribute of the attention module, such as "norm_k"."""
    streams: tuple[str, ...]
    """Streams in their order on the sequence axis of the norm's output."""
    sequence_dim: int = 1
    """Sequence axis of the output: 1 in (batch, tokens, …), 2 in (batch, heads, tokens, head size), 0 without a batch.
    """
    is_insertable: bool = False
    """Whether the attention runs a norm of that name if one is put where it has None: a neutral one is, while attached.
    """
    is_projection: bool = False
    """Whether this is the keys' projection ("to_k"), because the attention runs no norm that would cancel a gain."""
    refusals: tuple[tuple[str, str], ...] = ()
    """Pairs of a stream whose keys a gain cannot act on and the reason, as a sentence. Such a stream is no target."""


@dataclass(frozen=True)
class Site:
    """One attention inside each block of a stack."""

    name: str
    """"cross", "self", "double" or "single"."""
    path: str
    """Attribute of the block, such as "attn2"; dots allowed, empty where the block itself is the attention."""
    keys: tuple[KeyNorm, ...]
    """Norms of its keys, in the order in which they run. One that the model at hand does not have is passed over."""
    is_joint: bool = False
    """Whether the keys of all its norms meet in one softmax, in the order of the norms unless `joint_order` says
    otherwise."""
    joint_order: tuple[str, ...] = ()
    """Streams in the order of the softmax, where the norms run in another one (Flux: the text's keys lie first)."""
    ignores_mask: bool = False
    """Whether it cannot be given an attention mask of one's own, so that no constant can be put on its logits."""
    query_norm: str = "norm_q"
    """Attribute of the attention: the norm that the queries (in a double-stream block: of the video) pass before the
    keys pass theirs."""
    queries: tuple[str, ...] = ()
    """Streams that ask, in their order, where they are neither those of the keys nor what the blocks pass on."""
    keys_in_advance: Callable[[nn.Module, Tensor], dict[str, Tensor]] | None = None
    """Keys by stream after their norm, from the attention and its encoder states; for a modulation of queries that
    must know the keys before. Only for an attention without rotary embedding."""
    blocks: range | None = None
    """Indices of the stack's blocks that hold this attention; None for all."""
    refusal: str = ""
    """Why a gain on these keys cannot act, as a sentence; empty if it can. Such a site has no targets."""

    def is_in(self, block: int) -> bool:
        """Whether a block of the stack holds this attention."""
        return self.blocks is None or block in self.blocks


@dataclass(frozen=True)
class Stack:
    """A list of blocks of one kind."""

    name: str
    """Attribute of the transformer, such as "single_transformer_blocks"."""
    sites: tuple[Site, ...]
    """Attentions inside each block."""
    is_main: bool = True
    """Whether a block set that names no stack means this one too."""


def class_name(pipeline: Any) -> str:
    """Name of the pipeline's class; empty where it does not tell the task: for a bare transformer, and for a modular
    pipeline, one of whose classes serves them all. A pipeline that is only sketched has it in its config.
    """
    config = getattr(pipeline, "config", None) or {}
    name = "" if pipeline is None else config.get("_class_name", type(pipeline).__name__)
    return "" if name.endswith("ModularPipeline") else name


def square_grid(tokens: int) -> Grid:
    """The largest square that tokens fill, as those of a vision encoder; what is left over comes before it."""
    side = math.isqrt(tokens)
    return Grid(tokens - side * side, side, side)


def patch_grid(transformer: Any, arguments: Arguments) -> Grid:
    """The tokens of a generated picture, from the sides of its latents (…, height, width)."""
    height, width = arguments["hidden_states"].shape[-2:]
    patch = transformer.config.patch_size
    return Grid(0, height // patch, width // patch)


def attended_text(transformer: Any, arguments: Arguments) -> dict[str, Tensor]:
    """Which tokens of the text are no padding, where it is padded to one length and a mask says so."""
    mask = arguments.get("encoder_attention_mask")
    return {} if mask is None else {"text": mask}


@dataclass(frozen=True)
class Family:
    """A kind of transformer: where its keys are, how its tokens are ordered, how it is told the time."""

    name: str
    """Short name, used in presets and messages."""
    transformers: tuple[str, ...]
    """Names of the transformer classes it describes."""
    stacks: tuple[Stack, ...] | Callable[[nn.Module, Any], tuple[Stack, ...]]
    """Stacks, or a function of the transformer and its pipeline (None for a bare transformer) that gives them."""
    pipelines: tuple[str, ...] = ()
    """Names of the pipeline classes that it is exercised with."""
    token_counts: Callable[[nn.Module, Arguments], Mapping[str, int | None]] | None = None
    """Tokens per stream in one forward, from shapes alone. One stream of a norm may be missing: it has the rest. None
    for a stream that cannot be told from that one."""
    attended: Callable[[nn.Module, Arguments], dict[str, Tensor]] | None = None
    """Which tokens of a stream are no padding, 1 or 0 of shape (batch, tokens), for streams where the host masks it."""
    grids: Mapping[str, Callable[[nn.Module, Arguments], Grid]] = field(default_factory=dict, hash=False)
    """Grid by target, for the streams whose tokens lie on one, from shapes alone."""
    reference_channels: Callable[[nn.Module], ReferenceChannels | None] | None = None
    """Channels of the reference image in the input of this very transformer; None if it has none."""
    is_preparation: Callable[[Arguments], bool] | None = None
    """Whether a forward with these arguments belongs to no step: it computes what later ones keep, so that no gain may
    act in it."""
    watch: Callable[[Any], list[RemovableHandle]] | None = None
    """Hooks on the other models of a pipeline, which note what `token_counts` must know of `vision` and no shape tells.
    They are there while vision is told from text."""
    check: Callable[[Arguments, Container[str]], None] | None = None
    """Raises AttachmentError where a forward with these arguments cannot be acted on in these streams, as where a cache
    that the call may switch on keeps keys over steps."""
    forget: Callable[[nn.Module], None] | None = None
    """Makes a cache that is part of the model itself forget, so that the next forward computes all blocks. Called where
    a gain begins or ends to act; it must do nothing where that cache is off."""
    timestep_argument: str = "timestep"
    """What the transformer's forward calls its timestep."""
    timestep_scale: float | Callable[[nn.Module], float] = 1000.0
    """Timestep that the transformer is given at pure noise; or a function of this very transformer that gives it."""
    is_ascending: bool = False
    """Whether the transformer's timestep is 0 at pure noise and grows to `timestep_scale`."""
    text_argument: str = "encoder_hidden_states"
    """What the transformer's forward calls the text, or its tokens: a pass of guidance is recognised by it."""
    batch_order: tuple[str, ...] | Callable[[Arguments], tuple[str, ...]] = ()
    """Branches in the order in which one batch holds them, such as ("uncond", "cond"), where the pipeline runs
    classifier-free guidance in one batch and announces nothing, or in another order than this one; or a function that
    tells it from the arguments of the forward, where pipelines differ in how many they run."""

    def prepares(self, arguments: Arguments) -> bool:
        """Whether a forward belongs to no step, for it computes what later ones keep."""
        return self.is_preparation is not None and self.is_preparation(arguments)

    def scale_of(self, transformer: nn.Module) -> float:
        """Timestep that this very transformer is given at pure noise; or without noise, if it is ascending."""
        return self.timestep_scale(transformer) if callable(self.timestep_scale) else self.timestep_scale

    def branches(self, arguments: Arguments) -> tuple[str, ...]:
        """Branches in the order in which the batch of a forward holds them; none if the family does not say."""
        return self.batch_order(arguments) if callable(self.batch_order) else self.batch_order

    def stacks_of(self, transformer: nn.Module, pipeline: Any = None) -> tuple[Stack, ...]:
        """The stacks that this very transformer has."""
        stacks = self.stacks(transformer, pipeline) if callable(self.stacks) else self.stacks
        return tuple(stack for stack in stacks if len(getattr(transformer, stack.name, ())) > 0)
