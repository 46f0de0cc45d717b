"""The mechanism: an effect on what goes into a module or comes out of it, without touching its weights.

The module's class is swapped in place for a subclass with the same name: weights, keys of the state dict and hooks
stay. Where somebody else has put a forward on the instance (offloading does), a diffusers hook is used. The effect
itself is a plain Python object, invisible to `state_dict`, offloading and LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from alignvid.attachment.call import running_with
from alignvid.attachment.effect import Effect, Installed
from alignvid.errors import AttachmentError
from alignvid.host.versions import check_diffusers

check_diffusers()  # an old one lacks what is imported next

from diffusers.hooks import HookRegistry, ModelHook  # noqa: E402
from diffusers.models.normalization import FP32LayerNorm, MochiRMSNorm, RMSNorm  # noqa: E402

_MAKE_THEIR_OUTPUT = frozenset({nn.Linear, nn.LayerNorm, nn.RMSNorm, FP32LayerNorm, RMSNorm, MochiRMSNorm})
"""Classes whose output is a new tensor each time that nothing else refers to, autograd included. An Identity gives what
it was given, and what somebody else has put on an instance may keep what it gives."""


_HOOK_NAME = "alignvid_effect"


_ATTRIBUTE = "_alignvid_effect"


def install(installed: Installed) -> None:
    """Let an effect act on a module; at most one on each."""
    module, effect, is_counted = installed
    effect.at_rest.is_in_force = False
    if "forward" in vars(module):
        hook = _EffectHook(effect, is_counted)
        HookRegistry.check_if_exists_or_initialize(module).register_hook(hook, _HOOK_NAME)
        return
    object.__setattr__(module, _ATTRIBUTE, (effect, is_counted))
    if not is_swapped(module):  # else somebody's class is over ours (FSDP's is): ours acts again
        module.__class__ = _affected_class(type(module))


def remove(installed: Installed) -> None:
    """Undo `install`: the class and the instance are as before."""
    module, effect, _ = installed
    effect.at_rest.is_in_force = True
    registry = getattr(module, "_diffusers_hook", None)
    if registry is not None and registry.get_hook(_HOOK_NAME) is not None:
        registry.remove_hook(_HOOK_NAME, recurse=False)
        _drop_traces(module)
        return
    module.__class__ = base_of(type(module))
    # Where somebody wrapped our forward or class meanwhile, it still reads the effect, now inert.
    is_ours_beneath = "forward" in vars(module) or is_swapped(module)
    if not is_ours_beneath:
        vars(module).pop(_ATTRIBUTE, None)


def remove_copies(model: nn.Module) -> None:
    """Undo what a module brought along that was copied while an effect was installed on the original (peft copies
    norms that are trained in full).
    """
    for module in model.modules():
        is_ours = base_of(type(module)) is not type(module)  # and nobody's class is over it
        if _ATTRIBUTE in vars(module) and is_ours and "forward" not in vars(module):
            module.__class__ = base_of(type(module))
            del vars(module)[_ATTRIBUTE]


def same_named_subclass(base: type, members: Mapping[str, Any]) -> type:
    """A subclass that saving, LoRA loading and messages take for its base."""
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    return type(base.__name__, (base,), {**names, "_alignvid_base": base, **members})


def is_swapped(module: nn.Module) -> bool:
    """Whether its class is one of ours, or somebody's over one of ours."""
    return hasattr(type(module), "_alignvid_base")


def base_of(swapped: type) -> type:
    """The class that a swapped one was made from; any other, such as FSDP's over a swapped one, is left as it is."""
    return vars(swapped).get("_alignvid_base", swapped)


class _EffectHook(ModelHook):
    def __init__(self, effect: Effect, is_counted: bool) -> None:
        super().__init__()
        self.effect = effect
        self.is_counted = is_counted

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        return self.effect.on_input(module, args, kwargs) if _acts(self.effect, self.is_counted) else (args, kwargs)

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        return self.effect.on_output(output) if _acts(self.effect, is_counted=False) else output


def _acts(effect: Effect, is_counted: bool) -> bool:
    """Whether an effect acts on what its module is about to make; counted for the forward that is running.

    Raises: AttachmentError if no forward of the transformer is running.
    """
    if torch.compiler.is_compiling():
        shared = effect.shared
        if not shared.is_in_force:
            _refuse_outside()
        shared.has_run = True  # compiled code does this each time, at no graph and no guard
        # In this order: a graph that has looked at `is_active` is compiled again when that changes.
        return effect.is_neutral_in_graph or shared.is_active
    call = running_with(effect)
    if call is None:
        if not effect.at_rest.is_in_force:
            _refuse_outside()
        return False
    is_active = call.states[effect].is_active
    if is_counted:
        call.count(is_active=is_active)
    return is_active


def _refuse_outside() -> None:
    raise AttachmentError(
        "A part of the model that AlignVid is attached to ran outside of a forward of the transformer, so that the "
        "step and the pass are not known. Call the transformer itself, not one of its blocks nor a forward that was "
        "taken from it; checkpoint by its own enable_gradient_checkpointing(); or detach first."
    )


@cache
def _affected_class(base: type[nn.Module]) -> type[nn.Module]:
    plain_forward = base.forward  # looked up here: some hosts' classes are opaque to torch.compile
    makes_its_output = base in _MAKE_THEIR_OUTPUT

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        effect, is_counted = getattr(self, _ATTRIBUTE)
        if not _acts(effect, is_counted):
            return plain_forward(self, *args, **kwargs)
        args, kwargs = effect.on_input(self, args, kwargs)
        output = plain_forward(self, *args, **kwargs)
        return effect.on_fresh_output(output) if makes_its_output else effect.on_output(output)

    # torch.compile takes every tensor size that it finds below a module of torch's own for a constant.
    return same_named_subclass(base, {"forward": forward, "__module__": __name__})


def _drop_traces(module: nn.Module) -> None:
    """A registry without hooks, and the class's own forward that it leaves on the instance, would stay for ever.

    Later attachments would then take the slow path.
    """
    if not module._diffusers_hook.hooks:  # type: ignore[union-attr]  # the registry, by its user above
        del module._diffusers_hook
    if getattr(vars(module).get("forward"), "__func__", None) is type(module).forward:
        del module.forward  # type: ignore[attr-defined]  # an instance attribute, checked above
