"""What an exact audit says of the judge, beside the scores; on OmitShapes, the scores without its errors, too."""

from __future__ import annotations

from alignvid.bench.audits.agreement import Estimate, corrected_scores
from alignvid.bench.audits.audit import answered_questions
from alignvid.bench.audits.exact_file import EstimateFacts, ExactFacts, counts
from alignvid.bench.data.dataset import OMITSHAPES
from alignvid.bench.scoring.scorecard import Scorecard
from alignvid.bench.scoring.statistics import SEED
from alignvid.report.tables import NOTHING, Table


def audit_tables(card: Scorecard, audit: ExactFacts | None) -> list[Table]:
    """The judge's rates, and what each variant has without its errors where they are of the same kind of clips."""
    if audit is None:
        return []
    names = {
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "yes_bias": "yes-bias",
        "denial_bias": "denials less claims",
        "brier": "Brier score of P(yes)",
    }
    found = {name: audit.get(name) for name in names}
    rows = [(names[name], _value(facts), str(facts["n"])) for name, facts in found.items() if facts is not None]
    is_same = card.run.info.data.get("name") == OMITSHAPES
    note = f"Clips of {audit['scenes']} rendered scenes, whose truth is known, asked in both polarities."
    if not is_same:
        note += " This run is of other data: flat shapes are no photographs, and the scores are not corrected."
    rates = Table("The judge's errors", ("rate", "value [95 %]", "scenes"), rows, note)
    return [rates, _corrected(card, audit)] if is_same else [rates]


def _corrected(card: Scorecard, audit: ExactFacts) -> Table:
    scores = corrected_scores(answered_questions(card.run), card.run.variants, counts(audit), seed=SEED)
    rows = [
        (score.variant, f"{100 * score.judged:.1f}", _percent(score.corrected), str(score.corrected.n))
        for score in scores
    ]
    note = (
        "After Rogan and Gladen, with one pair of errors for all questions; unparsed replies and missing videos left "
        "out. Nothing where the judge is no better than chance."
    )
    return Table("Accuracy without the judge's errors", ("variant", "judged %", "corrected % [95 %]", "n"), rows, note)


def _percent(found: Estimate) -> str:
    if found.value is None or found.low is None or found.high is None:
        return NOTHING
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _value(facts: EstimateFacts) -> str:
    if facts["value"] is None:
        return NOTHING
    if facts["low"] is None or facts["high"] is None:
        return f"{facts['value']:.3f}"
    return f"{facts['value']:.3f} [{facts['low']:.3f}, {facts['high']:.3f}]"
