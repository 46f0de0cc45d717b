"""The words in which a transformer family is described: stacks of blocks, attention sites, key norms and their streams.

A family is data. It says where the keys of each stream leave a norm, and in which order the streams lie on its output.
docs/concepts.md explains the words; docs/families.md is a worked example.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from alignvid.errors import UnsupportedModel
from alignvid.models.attention_call import CallReach
from alignvid.models.paths import blocks_of, descend, lists_in
from alignvid.models.sizes import Sizes, config_sizes

Arguments = Mapping[str, Any]
"""Arguments of a transformer's forward, by name."""

Reach = Callable[[tuple[Any, ...], dict[str, Any], Callable[[Tensor], Tensor]], tuple[tuple[Any, ...], dict[str, Any]]]
"""From the arguments of an attention and a function of keys: arguments with which its keys pass that function."""

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


class TextRows(NamedTuple):
    """Rows of a prompt's embedding, as they lie in the stream `text`."""

    states: Any
    """(batch, tokens, features), or a list of (tokens, features): the very tensors that the forward is given."""
    start: int = 0
    stop: int | None = None


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
    is_optional: bool = False
    """Whether models of the family may lack it, as text-to-video lacks the norm of image keys. Its streams are no
    targets there."""
    is_insertable: bool = False
    """Whether the attention runs a norm of that name if one is put where it has None: a neutral one is, while attached.
    """
    is_projection: bool = False
    """Whether this is the keys' projection ("to_k"), because the attention runs no norm that would cancel a gain."""
    reach: Reach | None = None
    """How keys are reached where the attention runs no norm of which the output could be changed, as where a kernel
    reads the norm's weight. `path` is empty then, and `sequence_dim` that of the keys as they are handed over."""
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
    """Norms of its keys, in the order in which they run."""
    is_joint: bool = False
    """Whether the keys of all its norms meet in one softmax, in the order of the norms unless `joint_order` says
    otherwise."""
    joint_order: tuple[str, ...] = ()
    """Streams in the order of the softmax, where the norms run in another one (Flux: the text's keys lie first)."""
    ignores_mask: bool = False
    """Whether it takes no attention mask from outside, so that no constant can be put on its logits."""
    call: CallReach | None = None
    """How its attention call is reached where its host has a way of its own, for what acts there; a constant goes that
    way too, whatever `ignores_mask` says. None: through diffusers' dispatch, where its processor calls that."""
    query_norm: str = "norm_q"
    """Attribute of the attention: the norm that the queries (in a double-stream block: of the video) pass before the
    keys pass theirs."""
    queries: tuple[str, ...] = ()
    """Streams that ask, in their order, where they are neither those of the keys nor what the blocks pass on."""
    keys_in_advance: Callable[[nn.Module, Tensor, Arguments], dict[str, Tensor]] | None = None
    """Keys by stream after their norm, from the attention, its encoder states and its other arguments by name; for a
    modulation of queries that must know the keys before. Only for an attention without rotary embedding."""
    text_through: tuple[str, ...] = ()
    """Attributes of the transformer: the modules, in order, by which alone a prompt's embedding becomes what this
    attention is given, token by token. Empty where it is joint, or not known."""
    blocks: range | None = None
    """Indices of the stack's blocks that hold this attention; None for all."""
    is_optional: bool = False
    """Whether some of these blocks may lack it."""
    writes_to_input: bool = False
    """Whether it changes what it is given in place, so that running it twice needs a copy."""
    refusal: str = ""
    """Why a gain on these keys cannot act, as a sentence; empty if it can. Such a site has no targets."""

    def is_in(self, block: int) -> bool:
        """Whether a block of the stack holds this attention."""
        return self.blocks is None or block in self.blocks


@dataclass(frozen=True)
class Stack:
    """A list of blocks of one kind."""

    name: str
    """Attribute of the transformer, such as "single_transformer_blocks"; dots allowed."""
    sites: tuple[Site, ...]
    """Attentions inside each block."""
    is_main: bool = True
    """Whether a block set that names no stack means this one too."""
    is_optional: bool = False
    """Whether models of the family may lack it."""


def class_name(pipeline: Any) -> str:
    """Name of the pipeline's class; empty where it does not say the task: for a bare transformer, and for a modular
    pipeline, one of whose classes serves them all. A pipeline that is only sketched has it in its config.
    """
    config = getattr(pipeline, "config", None) or {}
    name = "" if pipeline is None else config.get("_class_name", type(pipeline).__name__)
    return "" if name.endswith("ModularPipeline") else name


@dataclass(frozen=True)
class OwnCache:
    """A cache of the host's own that its loop gives to each forward, one for each pass of guidance."""

    kept: Callable[[nn.Module, Arguments], dict[str, Any] | None]
    """What it keeps, by name, for the forward with these arguments; None while it is off."""
    forget: Callable[[dict[str, Any]], None]
    """Makes it compute all blocks in that forward."""


@dataclass(frozen=True)
class Reads:
    """What a family reads of the tokens in one forward. None of it is needed where each norm sees one stream."""

    token_counts: Callable[[nn.Module, Arguments], Mapping[str, int | None]] | None = None
    """Tokens per stream in one forward, from shapes alone. One stream of a norm may be missing: it has the rest. None
    for a stream that cannot be distinguished from that one."""
    attended: Callable[[nn.Module, Arguments], dict[str, Tensor]] | None = None
    """Which tokens of a stream are no padding, 1 or 0 of shape (batch, tokens), for streams where the host masks it."""
    prompts: Callable[[nn.Module, Arguments], Sequence[TextRows | int]] | None = None
    """What the stream `text` is made of, in order: rows of embeddings, or a number of the model's own tokens. None:
    the rows of the argument `Time.text`, and behind them perhaps the model's padding."""
    words_refusal: str = ""
    """Why words cannot be found among these tokens, as a sentence; empty if they can."""
    grids: Mapping[str, Callable[[nn.Module, Arguments], Grid]] = field(default_factory=dict, hash=False)
    """Grid by target, for the streams whose tokens lie on one, from shapes alone."""
    reference_channels: Callable[[nn.Module], ReferenceChannels | None] | None = None
    """Channels of the reference image in the input of this very transformer; None if it has none."""
    watch: Callable[[Any], list[RemovableHandle]] | None = None
    """Hooks on the other models of a pipeline, which note what `token_counts` must know of `vision` and no shape says.
    They are there while vision is distinguished from text."""
    check: Callable[[Arguments, Container[str]], None] | None = None
    """Raises AttachmentError where a forward with these arguments cannot be acted on in these streams, as where a cache
    that the call may switch on keeps keys over steps."""
    warning: Callable[[Arguments, Container[str]], str] | None = None
    """A sentence where one of these streams is not what its name says in a forward with these arguments; else empty."""
    forget: Callable[[nn.Module], None] | None = None
    """Makes a cache that is part of the model itself forget, so that the next forward computes all blocks. Called where
    a gain begins or ends to act; it must do nothing where that cache is off."""
    cache: OwnCache | None = None
    """A cache that each forward is given, by pass."""


@dataclass(frozen=True)
class Time:
    """How the transformer is given the step of a run, and the passes of guidance in it."""

    argument: str = "timestep"
    """What the transformer's forward calls its timestep."""
    scale: float | Callable[[nn.Module], float] = 1000.0
    """Timestep that the transformer is given at pure noise; or a function of this very transformer that gives it."""
    is_ascending: bool = False
    """Whether the timestep is 0 at pure noise and grows to `scale`."""
    is_preparation: Callable[[Arguments], bool] | None = None
    """Whether a forward with these arguments belongs to no step: it computes what later ones keep, so that no gain may
    act in it."""
    text: str = "encoder_hidden_states"
    """What the transformer's forward calls the text, or its tokens: a pass of guidance is recognised by it."""
    batch_order: tuple[str, ...] | Callable[[Arguments], tuple[str, ...]] = ()
    """Branches in the order in which one batch holds them, such as ("uncond", "cond"), where the pipeline runs
    classifier-free guidance in one batch and announces nothing, or in another order than this one; or a function of the
    arguments of the forward, where pipelines differ in how many they run."""


@dataclass(frozen=True)
class Family:
    """A kind of transformer: where its keys are, how its tokens are ordered, how it is given the time."""

    name: str
    """Short name, used in presets and messages."""
    transformers: tuple[str, ...]
    """Classes that it describes, their subclasses included: "Name" is that class of diffusers, "package:Name" one of
    another package or of one of its modules, such as "wan.modules.model:WanModel"."""
    stacks: tuple[Stack, ...] | Callable[[nn.Module, Any], tuple[Stack, ...]]
    """Stacks, or a function of the transformer and its pipeline (None for a bare transformer) that gives them."""
    pipelines: tuple[str, ...] = ()
    """Names of the pipeline classes that it is exercised with."""
    reads: Reads = Reads()
    """What is read of the tokens in one forward."""
    time: Time = Time()
    """How the transformer is given the step, and the passes of guidance in it."""
    sizes: Callable[[nn.Module], Sizes] = config_sizes
    """What presets recognise a model by, where its config does not say it or there is none."""
    presets_of: str = ""
    """Family whose presets are for these models, too: where this one describes the same models in another package's
    classes. Empty for its own."""

    @property
    def preset_family(self) -> str:
        """Family that a preset for these models names."""
        return self.presets_of or self.name

    @property
    def grids(self) -> Mapping[str, Callable[[nn.Module, Arguments], Grid]]:
        """Grid by target, for the streams whose tokens lie on one."""
        return self.reads.grids

    def token_counts(self, transformer: nn.Module, arguments: Arguments) -> Mapping[str, int | None]:
        """Tokens per stream in a forward; none where each norm sees one stream."""
        return {} if self.reads.token_counts is None else self.reads.token_counts(transformer, arguments)

    def prompts(self, transformer: nn.Module, arguments: Arguments) -> Sequence[TextRows | int]:
        """What the stream `text` is made of in a forward."""
        if self.reads.prompts is not None:
            return self.reads.prompts(transformer, arguments)
        return (TextRows(arguments[self.time.text]),)

    def attended(self, transformer: nn.Module, arguments: Arguments) -> dict[str, Tensor]:
        """Which tokens of a stream are no padding, for the streams where there may be some."""
        return {} if self.reads.attended is None else self.reads.attended(transformer, arguments)

    def reference_channels(self, transformer: nn.Module) -> ReferenceChannels | None:
        """Channels of the reference image in the transformer's input; None if it has none."""
        return None if self.reads.reference_channels is None else self.reads.reference_channels(transformer)

    def watch(self, pipeline: Any) -> list[RemovableHandle]:
        """Put hooks on the pipeline's other models that note which tokens are `vision`; none if none are needed."""
        return [] if self.reads.watch is None else self.reads.watch(pipeline)

    def warning(self, arguments: Arguments, streams: Container[str]) -> str:
        """A sentence where a stream is not what its name says in a forward; else empty."""
        return "" if self.reads.warning is None else self.reads.warning(arguments, streams)

    def prepares(self, arguments: Arguments) -> bool:
        """Whether a forward belongs to no step, for it computes what later ones keep."""
        return self.time.is_preparation is not None and self.time.is_preparation(arguments)

    def scale_of(self, transformer: nn.Module) -> float:
        """Timestep that this very transformer is given at pure noise; or without noise, if it is ascending."""
        return self.time.scale(transformer) if callable(self.time.scale) else self.time.scale

    def branches(self, arguments: Arguments) -> tuple[str, ...]:
        """Branches in the order in which the batch of a forward holds them; none if the family does not say."""
        order = self.time.batch_order
        return order(arguments) if callable(order) else order

    def stacks_of(self, transformer: nn.Module, pipeline: Any = None) -> tuple[Stack, ...]:
        """The stacks of this very transformer; those without a block are left out.

        Raises: UnsupportedModel if it lacks one that is not optional, or has no block at all.
        """
        stacks = self.stacks(transformer, pipeline) if callable(self.stacks) else self.stacks
        missing = [s.name for s in stacks if not s.is_optional and descend(transformer, s.name) is None]
        present = tuple(stack for stack in stacks if len(blocks_of(transformer, stack.name)) > 0)
        if missing or not present:
            lacking = missing or [stack.name for stack in stacks]
            raise UnsupportedModel(
                f"{type(transformer).__name__} has no {'' if missing else 'block in '}"
                f"{' and no '.join(f'`{name}`' for name in lacking)}, where the family {self.name} describes blocks; "
                f"its lists of blocks are {lists_in(transformer)}. Correct the name of the stack, or set is_optional "
                "if some of these models lack it."
            )
        return present

    def describes(self, kind: type) -> bool:
        """Whether this very class, not one that it inherits from, is among the transformers."""
        return any(_is_named(kind, name) for name in self.transformers)


def _is_named(kind: type, name: str) -> bool:
    package, _, class_name = name.rpartition(":")
    return kind.__name__ == class_name and f"{kind.__module__}.".startswith(f"{package or 'diffusers'}.")
