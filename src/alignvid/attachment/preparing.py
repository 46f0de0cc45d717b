"""What effects are given before a forward: whether they act, the tokens of each stream, and what a kind asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alignvid.attachment.effect import Effect, Several
from alignvid.attachment.idleness import StreamWatch
from alignvid.attachment.part import Counts, Part, RunFacts
from alignvid.attachment.reading import Reading
from alignvid.host.contract import Contract
from alignvid.host.transformers import Host
from alignvid.models.family import ReferenceChannels


class Preparation:
    """Prepares the effects on one transformer for a forward whose Call is in force."""

    def __init__(self, host: Host, parts: Sequence[Part], several: Sequence[Several], contract: Contract) -> None:
        """`several`: of effects of several parts on one module. `contract` hears of streams without tokens."""
        self._host, self._several, self._contract = host, several, contract
        self._effects = [part.effects for part in parts]
        self.effects: list[Effect] = [*(effect for effects in self._effects for effect in effects), *several]
        """Each once."""
        self.is_always = any(effect.must_prepare_idle for effect in self.effects)
        """Whether also a forward in which nothing acts must be prepared."""
        self._needs_token_counts = any(effect.reads_token_counts for effect in self.effects)
        self.streams = StreamWatch(host, parts, contract)
        self._reference = next(filter(None, (effect.reference for effect in self.effects)), None)

    def prepare(self, arguments: Mapping[str, Any], reading: Reading, facts: RunFacts, counts: Counts) -> None:
        """Give the effects what they need to know of a forward with these arguments.

        Args:
            arguments: of the forward.
            reading: what is known of it.
            facts: of its run.
            counts: hear where chosen words were found.
        """
        family, transformer, tokens = self._host.family, self._host.transformer, {}
        run, noise_level, samples, asked, branches = reading
        # Also when nothing is scaled: compiled code splits the keys at every step, and multiplies by one.
        if self._needs_token_counts:
            counted = family.token_counts(transformer, arguments)
            tokens = {stream: count or 0 for stream, count in counted.items()}
            self.streams.see(counted, run, facts)
        if self._reference is not None and not facts.has_seen_reference and reading.is_acting:
            self._see_reference(arguments.get("hidden_states"), self._reference, run, facts)
        for effects, chosen, prompted, branch in zip(self._effects, samples, asked, branches, strict=True):
            for effect in effects:
                if effect.reads_branch:
                    effect.now.branch = branch
                if effect.reads_prompts:
                    effect.now.asked = prompted if isinstance(prompted, list) else [prompted]
                if tokens:
                    effect.now.set_token_counts(tokens)
                if chosen or effect.is_neutral_in_graph:
                    effect.prepare(transformer, arguments, noise_level)
                effect.set_active(chosen) if isinstance(chosen, bool) else effect.set_active_samples(chosen)
                if effect.reads_prompts:
                    self._note_words(effect.now, run, counts)
                if chosen and effect.reads_guidance:
                    self._note_guidance(effect.now, run, counts)
        for several in self._several:
            several.follow()

    def _see_reference(self, latents: Any, channels: ReferenceChannels, run: int, facts: RunFacts) -> None:
        """Say so if there is no reference image; one look a run, for it waits for the device."""
        facts.has_seen_reference = True
        if latents is None:  # ComfyUI joins noise and reference behind its door
            return
        if not latents[:, channels.start : channels.stop].any():
            self._contract.warn(
                "empty reference",
                f"Nothing is changed: the channels of the reference image in the input of the {self._host.name} are "
                "all zero in this call. Give the pipeline an image, or detach.",
                once_in=(self._host.name, run),
            )

    def _note_guidance(self, now: Any, run: int, counts: Counts) -> None:
        counts.guidance = now.guidance
        if now.guidance is None and now.branch in ("uncond", "batched"):
            self._contract.warn(
                "unknown guidance",
                "This run has guidance, whose scale is not known here: the gain acts as without guidance, which "
                "multiplies it. Stay near follow 0.2, or divide follow by the scale.",
                once_in=(self._host.name, run),
            )

    def _note_words(self, now: Any, run: int, counts: Counts) -> None:
        counts.found |= now.found
        if now.missing:
            self._contract.warn("missing words", now.missing, once_in=(self._host.name, run))
