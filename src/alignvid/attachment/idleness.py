"""Where a gain that is on does nothing: attentions that do not run, streams without tokens. Said once a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alignvid.attachment.call import Call
from alignvid.attachment.effect import Installed
from alignvid.attachment.part import Part, RunFacts
from alignvid.attachment.placement import Placement
from alignvid.host.caches import SkipWatch
from alignvid.host.contract import Contract
from alignvid.host.transformers import Host
from alignvid.modulation import Modulation

_NAMED = 6  # attentions in a message


def attentions(installed: Sequence[Installed], placements: Sequence[Placement]) -> dict[int, str]:
    """What stands for each attention in counts, by id, with a name such as "blocks.3.cross"."""
    names: dict[int, str] = {}
    for where in (item.location for item in placements):
        for module in (where.norm, where.attention, where.queries):
            names.setdefault(id(module), f"{where.stack}.{where.block}.{where.site}")
    counted = (id(item.module) for item in installed if item.is_counted)
    return {module: names[module] for module in counted if module in names}


class Idleness:
    """Forwards of one transformer in which the keys of some attentions were not multiplied, or blocks were left out."""

    def __init__(
        self,
        name: str,
        host: Host,
        site_count: int,
        contract: Contract,
        attentions: Mapping[int, str],
        *,
        has_passes: bool,
    ) -> None:
        """Nothing has acted yet.

        Args:
            name: of the preset, for messages.
            host: the transformer.
            site_count: attentions that are acted on.
            contract: hears of a gain that does nothing.
            attentions: names by the id of what stands for each in counts.
            has_passes: whether a step may have several forwards, of which some leave out blocks on purpose, as
                diffusers' guiders do; then one that runs in none of them is idle.
        """
        self._has_passes = has_passes
        self._name, self._host, self._site_count, self._contract = name, host.name, site_count, contract
        self._attentions = attentions
        self._skips = SkipWatch()

    def see(self, call: Call, facts: RunFacts, *, may_skip: bool) -> None:
        """After a forward: say so if its gain multiplied nothing, or if blocks were left out at an edge.

        Args:
            call: the forward.
            facts: of its run.
            may_skip: whether a cache that forgets where it must may have left out all blocks.
        """
        run, kind, is_edge = call.edge
        if facts.met and call.begins_step:
            self._judge(facts, run)
        if call.acting and not facts.has_acted and not may_skip:
            self._warn_of_nothing(run)
            return
        skipped = self._skips.see(run, kind, self._site_count, call.ran, is_edge=is_edge)
        if skipped is not None:
            facts.has_seen_all = True
            self._contract.warn("skipped blocks", skipped)
        elif call.met and not facts.has_seen_all and (is_edge or not may_skip):
            facts.met |= call.met
            if not self._has_passes:
                self._judge(facts, run)

    def _judge(self, facts: RunFacts, run: int) -> None:
        """Once a run, when its first step with the gain is over."""
        if not facts.has_seen_all:
            facts.has_seen_all = True
            if sentence := self.sentence_of_idle(facts):
                self._contract.warn("idle attentions", f"{sentence}.", once_in=(self._host, run))

    def _warn_of_nothing(self, run: int) -> None:
        self._contract.warn(
            "nothing multiplied",
            f"AlignVid {self._name} was on in a forward of the {self._host} and multiplied nothing, for none of the "
            f"{self._site_count} attentions ran the norm of its keys. Likely reasons: the forward was replaced by an "
            "exported or fused one, something else than the pipeline runs the blocks, a kernel reads the norm's weight "
            "in place of calling the norm, or a cache left the blocks out. Detach, restore the model's own forward, "
            "and attach again.",
            once_in=(self._host, run),
        )

    def sentence_of_idle(self, facts: RunFacts) -> str:
        """Where some attentions ran in no pass of a run's first step with the gain; that none did is said elsewhere."""
        idle = [name for module, name in self._attentions.items() if module not in facts.met]
        if not idle:
            return ""
        more = f" and {len(idle) - _NAMED} more" if len(idle) > _NAMED else ""
        return (
            f"{len(idle)} of the {self._site_count} attentions of the {self._host} that AlignVid {self._name} acts on "
            "did not run the norm of their keys in the first step with the gain, so that nothing was multiplied "
            f"there: {', '.join(idle[:_NAMED])}{more}. A kernel reads the norm's weight in place of calling the norm, "
            "or their blocks are skipped: switch the fused kernel or the skipping off, use the model's class in "
            "diffusers, or choose other blocks"
        )


class StreamWatch:
    """Which streams of one transformer are acted on, and whether they have tokens."""

    def __init__(self, host: Host, parts: Sequence[Part], contract: Contract) -> None:
        """No token has been met yet. `contract` hears of streams without tokens."""
        placements = [(item, part.recipe.modulation) for part in parts for item in part.placements]
        self.streams = {stream for item, _ in placements for stream, _ in item.powers}
        """Those that are acted on."""
        self.distinguishes_vision = any(_distinguishes_vision(item, modulation) for item, modulation in placements)
        """Whether it matters which tokens of a prompt are vision."""
        self._host, self._contract = host.name, contract

    def see(self, counts: Mapping[str, int | None], run: int, facts: RunFacts) -> None:
        """Before a forward: say so if vision must be distinguished from text and cannot be, or if there are no tokens.

        Args:
            counts: tokens by stream, None where that cannot be known.
            run: that the forward belongs to.
            facts: of that run.
        """
        if self.distinguishes_vision and counts.get("vision", 0) is None:
            self._contract.warn(
                "unknown vision tokens",
                "Which tokens of the prompt are a picture's is not known, so that all count as text: the prompt was "
                "encoded before AlignVid was attached, or they lie elsewhere in each prompt of a batch. Attach before "
                "encoding, run prompts one by one, or act on text and vision alike.",
                once_in=(self._host, run),
            )
        if facts.has_met_tokens or not self.streams:  # guidance may drop the references in one of its later passes
            return
        facts.has_met_tokens = any((counts.get(stream, -1) or 0) != 0 for stream in self.streams)
        if not facts.has_met_tokens:
            self._contract.warn(
                "empty streams",
                f"Nothing is modulated: {', '.join(sorted(self.streams))} has no tokens in this call. Give the "
                "pipeline a reference image, or choose other streams.",
                once_in=(self._host, run),
            )


def _distinguishes_vision(placement: Placement, modulation: Modulation) -> bool:
    gains = dict(placement.gains)
    are_alike = modulation.is_uniform and gains.get("vision") == gains.get("text")
    return "vision" in placement.location.keys.streams and not are_alike
