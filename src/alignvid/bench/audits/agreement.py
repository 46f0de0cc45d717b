"""How well a judge agrees with people, and what a score would be without its errors.

Sensitivity is the share of people's yes that the judge calls yes, specificity that of people's no. A rate of yes q that
a judge with these errors reports stands for (q + specificity - 1) / (sensitivity + specificity - 1) (Rogan and Gladen,
Am. J. Epidemiol. 107, 1978). It is applied apart to the questions that expect yes and to those that expect no, so that
a judge which says yes too often does not gain by it. One pair of errors is assumed for all variants: `by_variant` shows
whether that is fair. UNPARSED verdicts and unclear questions take no part; both are counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from alignvid.bench.audits.audit import AnsweredQuestion, HumanAnswer, Key
from alignvid.bench.verdicts import Verdict
from alignvid.errors import MissingExtra

DRAWS = 4000
FEWEST = 10
"""People's answers yes, and as many no, that a correction needs: of 10, a rate of 0.9 is one between 0.60 and 0.98."""
_INTERVAL = (2.5, 97.5)

Parts = Float[np.ndarray, "sample 3"]
"""Per sample, as shares of its questions: yes is expected; expected and judged; judged though no is expected."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; None where there is nothing to compute it from."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Questions or samples that it is made from."""


@dataclass(frozen=True)
class CorrectedScore:
    """A variant's accuracy as judged and without the judge's errors; mean over samples of the share of questions."""

    variant: str
    judged: float
    corrected: Estimate
    """None where the judge is no better than chance, or the answers are too few: there is nothing to correct with."""
    has_too_few: bool = False
    """Whether people answered fewer than `FEWEST` of the audited questions with yes, or with no."""


@dataclass(frozen=True)
class Agreement:
    """What an audit says."""

    n: int
    """Questions that people answered yes or no and the judge, too."""
    unclear: int
    """Questions that people could not answer."""
    unparsed: int
    """Questions that people answered and the judge did not."""
    sensitivity: Estimate
    specificity: Estimate
    agreement: Estimate
    """Share of equal answers."""
    kappa: Estimate
    """Cohen's: agreement beyond what the two rates of yes give by chance."""
    by_variant: Mapping[str, Estimate]
    """Share of equal answers."""
    scores: tuple[CorrectedScore, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def agreement(questions: Iterable[AnsweredQuestion], people: Mapping[Key, HumanAnswer], *, seed: int) -> Agreement:
    """Compare a judge with people, and correct the scores of all its answers. The seed decides the intervals."""
    pool = list(questions)
    audited = [item for item in pool if people.get(item.key, "unclear") != "unclear"]
    read = [item for item in audited if item.verdict is not Verdict.UNPARSED]
    pairs = [(people[item.key] == "yes", item.verdict is Verdict.YES) for item in read]
    table = np.array([[pairs.count((human, judge)) for judge in (True, False)] for human in (True, False)])
    equal = [(item.variant, human == judge) for item, (human, judge) in zip(read, pairs, strict=True)]
    variants = list(dict.fromkeys(item.variant for item in pool))
    rng = np.random.default_rng(seed)
    return Agreement(
        n=len(read),
        unclear=sum(answer == "unclear" for answer in people.values()),
        unparsed=len(audited) - len(read),
        sensitivity=share(int(table[0, 0]), int(table[0].sum())),
        specificity=share(int(table[1, 1]), int(table[1].sum())),
        agreement=share(sum(same for _, same in equal), len(equal)),
        kappa=cohens_kappa(table),
        by_variant={name: _share_of(same for variant, same in equal if variant == name) for name in variants},
        scores=tuple(_corrected_score(name, _parts(pool, name), table, rng) for name in variants),
    )


def share(count: int, total: int) -> Estimate:
    """A share with Wilson's interval."""
    if total == 0:
        return Estimate(None, None, None, 0)
    low, high = _statsmodels("proportion").proportion_confint(count, total, alpha=0.05, method="wilson")
    return Estimate(count / total, float(low), float(high), total)


def cohens_kappa(table: np.ndarray) -> Estimate:
    """Of a 2×2 table of counts, people's answers by the judge's; None where both know one answer only."""
    total = int(table.sum())
    if total == 0 or ((table.sum(0) == total).any() and (table.sum(1) == total).any()):
        return Estimate(None, None, None, total)
    found = _statsmodels("inter_rater").cohens_kappa(table)
    low, high = max(-1.0, float(found.kappa_low)), min(1.0, float(found.kappa_upp))  # its normal interval goes beyond
    return Estimate(float(found.kappa), low, high, total)


def corrected_accuracy(
    parts: Float[np.ndarray, "... 3"], sensitivity: Float[np.ndarray, ...], specificity: Float[np.ndarray, ...]
) -> Float[np.ndarray, ...]:
    """Accuracy without the judge's errors, from means of `Parts`; what an error would put outside 0..1 is put at its
    edge.
    """
    expects_yes, yes_rightly, yes_wrongly = parts[..., 0], parts[..., 1], parts[..., 2]
    power, false_yes = sensitivity + specificity - 1, 1 - specificity
    truly_yes = np.clip((yes_rightly - false_yes * expects_yes) / power, 0, expects_yes)
    still_yes = np.clip((yes_wrongly - false_yes * (1 - expects_yes)) / power, 0, 1 - expects_yes)
    return truly_yes + (1 - expects_yes) - still_yes


def corrected_scores(
    questions: Iterable[AnsweredQuestion], variants: Iterable[str], table: np.ndarray, *, seed: int
) -> tuple[CorrectedScore, ...]:
    """Accuracies without a judge's errors, from a table of counts: truth (yes, no) by verdict (yes, no)."""
    pool, rng = list(questions), np.random.default_rng(seed)
    return tuple(_corrected_score(name, _parts(pool, name), table, rng) for name in variants)


def _corrected_score(name: str, parts: Parts, table: np.ndarray, rng: np.random.Generator) -> CorrectedScore:
    mean = parts.mean(0)
    judged = float(mean[1] + (1 - mean[0]) - mean[2])
    (hits, misses), (false_yes, rejections) = table.tolist()
    nothing = CorrectedScore(name, judged, Estimate(None, None, None, len(parts)))
    if min(hits + misses, false_yes + rejections) < FEWEST:
        return replace(nothing, has_too_few=True)
    sensitivity, specificity = hits / (hits + misses), rejections / (false_yes + rejections)
    if sensitivity + specificity <= 1:
        return nothing
    value = corrected_accuracy(mean, np.array(sensitivity), np.array(specificity))
    # Jeffreys' posterior of both rates, and samples drawn anew: the interval holds the audit's doubt and the samples'
    drawn_sensitivity = rng.beta(hits + 0.5, misses + 0.5, DRAWS)
    drawn_specificity = rng.beta(rejections + 0.5, false_yes + 0.5, DRAWS)
    times_drawn = rng.multinomial(len(parts), np.full(len(parts), 1 / len(parts)), size=DRAWS)
    means = times_drawn @ parts / len(parts)
    useful = drawn_sensitivity + drawn_specificity > 1
    drawn = corrected_accuracy(means[useful], drawn_sensitivity[useful], drawn_specificity[useful])
    low, high = np.percentile(drawn, _INTERVAL)
    return CorrectedScore(name, judged, Estimate(float(value), float(low), float(high), len(parts)))


def _parts(pool: list[AnsweredQuestion], variant: str) -> Parts:
    by_sample: dict[str, list[tuple[float, float, float]]] = {}
    for item in pool:
        if item.variant == variant:
            expects, says = item.question.expected_answer == "yes", item.verdict is Verdict.YES
            row = (float(expects), float(expects and says), float(not expects and says))
            if item.verdict is not Verdict.UNPARSED:
                by_sample.setdefault(item.sample.id, []).append(row)
    means = [np.mean(rows, axis=0) for rows in by_sample.values()]
    return np.array(means) if means else np.full((1, 3), math.nan)


def _share_of(claims: Iterable[bool]) -> Estimate:
    found = list(claims)
    return share(sum(found), len(found))


def _statsmodels(part: str) -> Any:
    try:
        import importlib

        return importlib.import_module(f"statsmodels.stats.{part}")
    except ImportError as error:
        raise MissingExtra('The audit needs statsmodels; install it: pip install "alignvid[bench]".') from error
