"""Scores as tables: for a terminal, a Markdown page and the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from alignvid.bench.scoring.published import is_comparable, published
from alignvid.bench.scoring.scorecard import Scorecard
from alignvid.bench.scoring.scores import DIMENSIONS, OVERALL, Comparison, Score
from alignvid.bench.scoring.statistics import Estimate
from alignvid.report.floor import floor_sentences

NOTHING = "–"
"""Where there is no number."""
_SAME = "same"
MAIN_CATEGORY = "main_category"
_MOTION = ("dynamic_degree_dis", "dynamic_degree")
"""Metrics of optical flow: the share of clips that move."""
NOT_IN_TERMINAL = ("if failed were wrong – right", "videos", "questions", "settings", "left out")
IN_TERMINAL = (OVERALL, MAIN_CATEGORY, "question_category")
_PUBLISHED_COLUMNS = ("modification", "addition", "deletion", "dynamic_degree", "aesthetic_quality")


@dataclass(frozen=True)
class Table:
    """Headings, rows of texts, and what must be known to read them."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""

    def without(self, *headings: str) -> Table:
        """The same table with fewer columns."""
        kept = [index for index, heading in enumerate(self.headings) if heading not in headings]
        rows = [tuple(row[index] for index in kept) for row in self.rows]
        return replace(self, headings=tuple(self.headings[index] for index in kept), rows=rows)

    def without_empty(self) -> Table:
        """The same table without the columns that are empty, or 0, in every row; the note says which these are."""
        columns = dict(zip(self.headings, zip(*self.rows, strict=True), strict=True)) if self.rows else {}
        empty = [heading for heading, cells in columns.items() if set(cells) <= {NOTHING, "", _SAME}]
        zero = [heading for heading, cells in columns.items() if set(cells) == {"0"}]
        said = [
            f"{what}: {', '.join(found)}."
            for what, found in (("Nothing in any row", empty), ("0 in every row", zero))
            if found
        ]
        return replace(self.without(*empty, *zero), note=" ".join(filter(None, (self.note, *said))))


def score_tables(card: Scorecard, dimensions: Iterable[str] = DIMENSIONS) -> list[Table]:
    """Accuracy by dimension, then what each variant gains over the first."""
    dimensions = tuple(dimensions)
    tables = [_accuracy_table(card, dimension) for dimension in dimensions]
    if card.comparisons:
        tables += [_comparison_table(card, dimension) for dimension in dimensions]
    return tables


def metric_tables(card: Scorecard) -> list[Table]:
    """Means of the metrics, and whether a variant loses too much; none where nothing was measured."""
    if not card.metrics:
        return []
    motion = _motion_tables(card)
    headings = ("metric", "protocol", "settings", "variant", "mean [95 %]", "n", "failed", "unmeasured", "stale")
    rows = [
        (row.metric, row.protocol, row.settings[:8], row.variant, number(row.mean), str(row.mean.n), str(row.failed),
         str(row.unmeasured), str(row.stale))
        for row in card.metrics
    ]  # fmt: skip
    means = Table("Metrics", headings, rows, "Raw values of each metric's own scale. Protocols are never mixed.")
    if not card.metric_comparisons:
        return [*motion, means]
    headings = (
        "metric",
        "protocol",
        "variant",
        "against",
        "difference [95 %]",
        "p",
        "lower limit",
        "margin",
        "verdict",
    )
    rows = [
        (row.metric, row.protocol, row.second, row.first, number(row.difference, signed=True), p_value(row.p),
         _plain(row.lower_limit), _plain(row.margin), _inferiority(row.is_not_inferior))
        for row in card.metric_comparisons
    ]  # fmt: skip
    note = "Not worse: with 95 % confidence (one-sided) the loss is smaller than the margin. No margin, no verdict."
    return [*motion, means, Table("Metrics, compared", headings, rows, note)]


def _motion_tables(card: Scorecard) -> list[Table]:
    """Each variant's accuracy beside the share of its clips that move; none where no flow was measured."""
    measured = [row for row in card.metrics if row.metric in _MOTION]
    if not measured:
        return []
    series = list(dict.fromkeys((row.metric, row.protocol, row.settings) for row in measured))
    means = {(row.metric, row.protocol, row.settings, row.variant): row.mean for row in measured}
    rows = [
        (variant, percent(card.score(variant).accuracy),
         *(number(means[*key, variant]) if (*key, variant) in means else NOTHING for key in series))
        for variant in card.run.variants
    ]  # fmt: skip
    headings = ("variant", "accuracy % [95 %]", *(f"{metric}, {protocol}" for metric, protocol, _ in series))
    note = "Share of clips that move, by optical flow. A judge that likes still clips gives more where this falls."
    return [Table("Judge and motion", headings, rows, note)]


def published_table(card: Scorecard) -> Table:
    """The authors' numbers and ours, one under the other and marked by source, judge and protocol."""
    numbers = published()
    source = numbers["source"].split(":")[0]
    headings = ("source", "model", "variant", "judge, protocol", *_PUBLISHED_COLUMNS)
    rows = [
        (f"{source}{', ' + row['run'] if 'run' in row else ''}", row["model"], row["variant"],
         f"{numbers['judge']}, {numbers['protocol']}; metrics {numbers['metrics_protocol']}",
         *(f"{row[column]:.2f}" for column in _PUBLISHED_COLUMNS))
        for row in numbers["omiti2v"]
    ]  # fmt: skip
    data = str(card.run.info.data.get("name"))
    own = [_own_row(card, variant, data) for variant in card.run.variants]
    note = "In percent. Published numbers are shown to be compared with, and go into none of ours."
    if not is_comparable(data):
        note += f" This run is on {data} and not on {numbers['data']}: its rows cannot be compared with the others."
    return Table("Published numbers", headings, own + rows, note)


def sentences(card: Scorecard) -> list[str]:
    """What a reader must know before the tables: whose answers, how many, and what was left out."""
    run, judging = card.run, card.run.judging
    counts = [card.score(variant).counts for variant in run.variants]
    total, missing = sum(one.videos for one in counts), sum(one.missing_videos for one in counts)
    size = " × ".join(
        f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
        for items, noun in ((run.samples, "sample"), (run.variants, "variant"), (run.seeds, "seed"))
    )
    said = [
        f"{run.info.data.get('name')}, {size} on {run.info.model.get('name')}: {total - missing} of {total} videos.",
        f"Judge {judging.judge}, protocol {judging.protocol}, settings {judging.settings[:12]}.",
    ]
    if unusable := run.info.data.get("unusable"):
        said.append(f"{len(unusable)} samples of the data could not be used and are not in these numbers.")
    said += [
        f"{count} {what}."
        for count, what in (
            (missing, "videos are missing and count as not right"),
            (sum(one.unparsed for one in counts), "replies say neither yes nor no and count as not right"),
            (
                sum(one.failed for one in counts),
                "answers failed and are left out; the bounds say what they could change",
            ),
            (sum(one.unasked for one in counts), "questions were not asked yet and are left out in the same way"),
            (run.left_out.stale_answers, "answers are about videos that have been made anew since, and were left out"),
            (run.left_out.unplanned_answers, "answers are about jobs or questions outside the plan, and were left out"),
            (run.left_out.failed_judgings, "other judgings have no answer but FAILED ones, and were passed over"),
            (run.left_out.unplanned_videos, "videos are of samples, variants or seeds outside the plan"),
        )
        if count
    ]
    return [*said, *floor_sentences(card)]


def markdown(card: Scorecard) -> str:
    """All tables as one Markdown page."""
    parts = ["# Scores", "\n".join(f"- {_cell(sentence)}" for sentence in sentences(card))]
    for table in (*score_tables(card), *metric_tables(card), published_table(card)):
        lines = [table.headings, tuple("---" for _ in table.headings), *table.rows]
        rows = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
        parts += [f"## {_cell(table.title)}", rows, *([table.note] if table.note else [])]
    return "\n\n".join(parts) + "\n"


def percent(found: Estimate, *, signed: bool = False) -> str:
    """A share in percent with its interval."""
    return _with_interval(found, 100, 1, signed)


def number(found: Estimate, *, signed: bool = False) -> str:
    """A metric's value with its interval."""
    return _with_interval(found, 1, 4, signed)


def p_value(p: float | None) -> str:
    """As many digits as the number of draws allows."""
    return NOTHING if p is None else f"{p:.4f}"


def dimension_label(dimension: str) -> str:
    """A dimension's name for people."""
    return "sub-category" if dimension == "sub_category" else dimension.replace("_", " ")


def _by(dimension: str) -> str:
    return "all samples" if dimension == OVERALL else f"by {dimension_label(dimension)}"


def _accuracy_table(card: Scorecard, dimension: str) -> Table:
    headings = (
        "group", "variant", "accuracy % [95 %]", "without missing", "if failed were wrong – right", "all right %", "n",
        "videos", "missing", "questions", "unparsed", "failed", "unasked", "yes % (expected)",
    )  # fmt: skip
    rows = [
        _score_row(score)
        for group in card.group_names(dimension)
        for score in card.scores
        if (score.dimension, score.group) == (dimension, group)
    ]
    note = "Each question counts the same." if dimension == "question_category" else ""
    return Table(f"Accuracy, {_by(dimension)}", headings, rows, note)


def _score_row(score: Score) -> tuple[str, ...]:
    counts = score.counts
    bounds = f"{_percentage(score.bounds[0])} – {_percentage(score.bounds[1])}"
    return (
        score.group,
        score.variant,
        percent(score.accuracy) if score.accuracy.n else "n = 0",
        percent(score.accuracy_of_videos) if counts.missing_videos else _SAME,
        bounds if counts.failed or counts.unasked else _SAME,
        percent(score.all_right),
        str(score.accuracy.n),
        str(counts.videos - counts.missing_videos),
        str(counts.missing_videos),
        str(counts.questions),
        str(counts.unparsed),
        str(counts.failed),
        str(counts.unasked),
        f"{_percentage(score.yes_rate)} ({_percentage(score.expected_yes_rate)})",
    )


def _comparison_table(card: Scorecard, dimension: str) -> Table:
    headings = (
        "group", "variant", "against", "points [95 %]", "p", "p (Holm)", "wins", "ties", "losses", "n", "left out",
    )  # fmt: skip
    rows = [_comparison_row(row) for row in card.comparisons if row.dimension == dimension]
    note = "On the videos that both have; p from a paired permutation test, adjusted over this table."
    return Table(
        f"Gains over {card.run.variants[0]}, {_by(dimension)}",
        headings,
        sorted(rows, key=lambda row: row[0]),
        note,
    )


def _comparison_row(row: Comparison) -> tuple[str, ...]:
    return (
        row.group, row.second, row.first, percent(row.difference, signed=True), p_value(row.p), p_value(row.p_holm),
        str(row.wins), str(row.ties), str(row.losses), str(row.difference.n), str(row.left_out),
    )  # fmt: skip


def _own_row(card: Scorecard, variant: str, data: str) -> tuple[str, ...]:
    judging = card.run.judging
    protocols = sorted({f"{row.metric} {row.protocol}" for row in card.metrics if row.metric in _PUBLISHED_COLUMNS})
    values = {score.group: score.accuracy.value for score in card.scores
              if (score.variant, score.dimension) == (variant, MAIN_CATEGORY)}  # fmt: skip
    for row in card.metrics:
        if row.variant == variant and row.metric in _PUBLISHED_COLUMNS:
            # Two protocols or settings of one metric have no common number.
            values[row.metric] = None if row.metric in values else row.mean.value
    return (
        f"this run, on {data}",
        str(card.run.info.model.get("name")),
        variant,
        f"{judging.judge}, {judging.protocol}" + (f"; {', '.join(protocols)}" if protocols else ""),
        *(_percentage(values.get(column), 2) for column in _PUBLISHED_COLUMNS),
    )


def _with_interval(found: Estimate, factor: int, digits: int, signed: bool) -> str:
    if found.value is None:
        return NOTHING
    sign = "+" if signed else ""
    value = f"{factor * found.value:{sign}.{digits}f}"
    if found.low is None or found.high is None:
        return value
    return f"{value} [{factor * found.low:{sign}.{digits}f}, {factor * found.high:{sign}.{digits}f}]"


def _percentage(value: float | None, digits: int = 1) -> str:
    return NOTHING if value is None else f"{100 * value:.{digits}f}"


def _plain(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.4f}"


def _inferiority(is_not_inferior: bool | None) -> str:
    return {None: NOTHING, True: "not worse", False: "not shown"}[is_not_inferior]


def _cell(text: str) -> str:
    """Text that stays in its cell of a Markdown table and is no markup."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(escaped.split())
