from dataclasses import replace

import pytest

from alignvid.bench.records import NOT_LOADED, append_rows
from alignvid.bench.run_folder import METRICS_FILE
from alignvid.bench.scoring.judged_run import Asked
from alignvid.bench.scoring.scorecard import score_run
from alignvid.bench.verdicts import Verdict
from judged_folders import always_right, right, sample_of, write_run, wrong


def card_of(tmp_path, samples, *, margins=None, **run):
    return score_run(write_run(tmp_path / "run", samples, **run), Asked(), margins or {})


def one_wrong_of(count, verdict=wrong):
    """The baseline has its first question wrong in the first `count` samples."""

    def decide(sample, variant, seed, question):
        is_hit = variant == "baseline" and int(sample.id.split("_")[1]) < count and question.id == "q0"
        return verdict(question) if is_hit else right(question)

    return decide


def test_accuracy_is_the_mean_over_samples_of_the_share_of_questions_right(tmp_path):
    samples = [sample_of(0, questions=2), sample_of(1, questions=6)]
    card = card_of(tmp_path, samples, decide=one_wrong_of(2))
    assert card.score("baseline").accuracy.value == pytest.approx((1 / 2 + 5 / 6) / 2)
    assert card.score("alignvid").accuracy.value == 1.0


def test_a_question_category_counts_each_question_the_same(tmp_path):
    samples = [sample_of(0, questions=2), sample_of(1, questions=6)]
    card = card_of(tmp_path, samples, decide=one_wrong_of(2))
    assert card.group_names("question_category") == ["edit", "rest"]
    assert card.score("baseline", "question_category", "edit").accuracy.value == 2 / 4
    assert card.score("baseline", "question_category", "rest").accuracy.value == 1.0


def test_all_right_gives_follow_rate_untouched_rate_and_both(tmp_path):
    card = card_of(tmp_path, [sample_of(n, questions=4) for n in range(4)], decide=one_wrong_of(1))
    assert card.score("baseline", "question_category", "edit").all_right.value == 3 / 4
    assert card.score("baseline", "question_category", "rest").all_right.value == 1.0
    assert card.score("baseline").all_right.value == 3 / 4


def test_seeds_are_averaged_before_samples(tmp_path):
    def decide(sample, variant, seed, question):
        return wrong(question) if (sample.id, seed) == ("sample_0", 1) else right(question)

    card = card_of(tmp_path, [sample_of(n) for n in range(2)], seeds=(0, 1), decide=decide)
    score = card.score("baseline")
    assert (score.accuracy.value, score.accuracy.n) == (3 / 4, 2)
    assert score.counts.videos == 4


def test_an_unparsed_reply_is_not_right_and_is_counted(tmp_path):
    card = card_of(tmp_path, [sample_of(n) for n in range(2)], decide=one_wrong_of(1, lambda q: Verdict.UNPARSED))
    score = card.score("baseline")
    assert score.accuracy.value == 3 / 4
    assert (score.counts.unparsed, score.counts.wrong) == (1, 0)


def test_a_failed_answer_is_left_out_and_bounds_say_what_it_could_change(tmp_path):
    card = card_of(tmp_path, [sample_of(n) for n in range(2)], decide=one_wrong_of(1, lambda q: Verdict.FAILED))
    score = card.score("baseline")
    assert score.accuracy.value == 1.0
    assert score.bounds == (3 / 4, 1.0)
    assert score.counts.failed == 1
    assert score.all_right.n == 1  # whether all was right in the other sample is not known


def test_a_missing_video_is_not_right_and_a_second_reading_says_how_good_the_others_are(tmp_path):
    card = card_of(tmp_path, [sample_of(n) for n in range(4)], missing={("sample_0", "baseline", 0)})
    score = card.score("baseline")
    assert score.accuracy.value == 3 / 4
    assert score.accuracy_of_videos.value == 1.0
    assert (score.coverage, score.counts.missing_videos, score.counts.missing) == (3 / 4, 1, 2)


def test_a_question_that_nobody_asked_is_not_a_wrong_answer(tmp_path):
    card = card_of(tmp_path, [sample_of(n) for n in range(2)], decide=one_wrong_of(1, lambda q: None))
    score = card.score("baseline")
    assert (score.accuracy.value, score.bounds, score.counts.unasked) == (1.0, (3 / 4, 1.0), 1)


def test_no_answer_for_a_variant_is_no_score_and_not_zero(tmp_path):
    def decide(sample, variant, seed, question):
        return None if variant == "baseline" else right(question)

    score = card_of(tmp_path, [sample_of(0)], decide=decide).score("baseline")
    assert (score.accuracy.value, score.accuracy.n, score.yes_rate) == (None, 0, None)


def test_a_judge_that_nods_shows_in_the_rate_of_yes(tmp_path):
    score = card_of(tmp_path, [sample_of(n) for n in range(4)], decide=lambda *_: Verdict.YES).score("baseline")
    assert (score.yes_rate, score.expected_yes_rate, score.accuracy.value) == (1.0, 0.5, 0.5)


def test_variants_are_compared_on_the_videos_that_both_have(tmp_path):
    samples = [sample_of(n) for n in range(5)]
    card = card_of(tmp_path, samples, decide=one_wrong_of(3), missing={("sample_4", "alignvid", 0)})
    row = card.comparisons[0]
    assert (row.first, row.second, row.dimension) == ("baseline", "alignvid", "overall")
    assert row.difference.value == pytest.approx(3 * 0.5 / 4)
    assert (row.wins, row.ties, row.losses, row.difference.n, row.left_out) == (3, 1, 0, 4, 1)
    assert row.p == 2 / 8  # of the 16 flips, 4 are as extreme: the tie flips for free


def test_p_is_adjusted_over_the_comparisons_of_one_dimension(tmp_path):
    card = card_of(tmp_path, [sample_of(n) for n in range(30)], decide=one_wrong_of(30))
    rows = [row for row in card.comparisons if row.dimension == "main_category"]
    assert len(rows) == 3
    assert all(row.p == pytest.approx(2 / 2**10) and row.p_holm == pytest.approx(3 * row.p) for row in rows)


def test_a_metric_is_averaged_over_seeds_and_samples_and_says_what_it_could_not_measure(tmp_path):
    def value(sample, variant, seed):
        return None if (sample.id, seed) == ("sample_0", 1) else float(seed)

    metrics = {"aesthetic_quality": value}
    card = card_of(tmp_path, [sample_of(n) for n in range(4)], seeds=(0, 1), metrics=metrics)
    row = card.metrics[0]
    assert row.mean.value == pytest.approx((0 + 3 * 0.5) / 4)
    assert (row.failed, row.unmeasured, row.protocol) == (1, 0, "native")


@pytest.mark.parametrize(("margin", "is_not_inferior"), [(0.05, True), (0.005, False)])
def test_a_variant_is_not_inferior_where_the_lower_limit_is_above_minus_the_margin(tmp_path, margin, is_not_inferior):
    def value(sample, variant, seed):
        number = int(sample.id.split("_")[1])
        return 0.6 + 0.001 * number - (0.01 + 0.002 * (number % 3)) * (variant == "alignvid")

    card = card_of(
        tmp_path,
        [sample_of(n) for n in range(30)],
        metrics={"aesthetic_quality": value},
        margins={"aesthetic_quality": margin},
    )
    row = card.metric_comparisons[0]
    assert (row.metric, row.protocol, row.settings) == ("aesthetic_quality", "native", "1" * 8)
    assert (row.first, row.second, row.margin) == ("baseline", "alignvid", margin)
    assert row.difference.value == pytest.approx(-0.012)
    assert row.difference.low < row.lower_limit < row.difference.value
    assert row.is_not_inferior is is_not_inferior


def attempt_without_weights(folder):
    """Rows of a metric that could not run, for every video."""
    rows = [replace(row, settings=NOT_LOADED, value=None, error="Needs its weights.") for row in folder.metrics()]
    append_rows(folder.path / METRICS_FILE, rows)


def test_a_metric_that_was_also_tried_without_its_weights_is_scored_by_what_was_measured(tmp_path):
    folder = write_run(tmp_path, [sample_of(n) for n in range(3)], metrics={"aesthetic_quality": lambda s, v, e: 0.5})
    before = score_run(folder, Asked(), {})
    attempt_without_weights(folder)
    after = score_run(folder, Asked(), {"aesthetic_quality": 0.01})
    assert after.metrics == before.metrics
    assert [row.mean.n for row in after.metrics] == [3, 3]  # one row for each variant
    assert [row.settings for row in after.metric_comparisons] == [before.metrics[0].settings]


def test_a_metric_that_could_never_run_is_shown_with_its_failures(tmp_path):
    folder = write_run(tmp_path, [sample_of(n) for n in range(3)], metrics={"flicker": lambda s, v, e: 0.5})
    rows = [replace(row, metric="aesthetic_quality", settings=NOT_LOADED, value=None) for row in folder.metrics()]
    append_rows(folder.path / METRICS_FILE, rows)
    shown = [row for row in score_run(folder, Asked(), {}).metrics if row.metric == "aesthetic_quality"]
    assert [(row.variant, row.mean.n, row.failed) for row in shown] == [("baseline", 0, 3), ("alignvid", 0, 3)]


def test_the_same_records_give_the_same_bytes_whatever_their_order_and_place(tmp_path):
    run = {"decide": one_wrong_of(4), "seeds": (0, 1), "metrics": {"flicker": lambda s, v, e: len(s.id) + e / 3}}
    samples = [sample_of(n) for n in range(12)]
    first = write_run(tmp_path / "here", samples, **run)
    second = write_run(tmp_path / "there", samples, **run)
    lines = (second.path / "answers.jsonl").read_text().splitlines(keepends=True)
    (second.path / "answers.jsonl").write_text("".join(reversed(lines)))
    assert score_run(first, Asked(), {}).to_json() == score_run(second, Asked(), {}).to_json()


def test_the_scores_say_how_they_were_made(tmp_path):
    found = card_of(tmp_path, [sample_of(0)]).to_dict()
    assert found["statistics"] == {"confidence": 0.95, "resamples": 10_000, "seed": 0, "interval": "BCa"}
    assert found["judging"] == {"judge": "rule", "protocol": "rule", "settings": "0" * 8}
    assert found["run"].keys() == {"data", "model", "variants", "seeds", "samples"}
    assert found["left_out"] == dict.fromkeys(
        ("stale_answers", "unplanned_answers", "unplanned_videos", "failed_judgings"), 0
    )


def test_an_answer_given_again_replaces_the_first(tmp_path):
    folder = write_run(tmp_path / "run", [sample_of(0)], decide=one_wrong_of(1))
    assert score_run(folder, Asked(), {}).score("baseline").accuracy.value == 1 / 2
    again = [
        replace(row, verdict=right(question))
        for row in folder.answers()
        for question in folder.samples()[0].questions
        if question.id == row.question
    ]
    append_rows(folder.path / "answers.jsonl", again)
    assert score_run(folder, Asked(), {}).score("baseline").accuracy.value == 1.0


def test_published_numbers_are_marked_and_not_comparable_with_another_data_set(tmp_path):
    found = card_of(tmp_path, [sample_of(0)], decide=always_right).to_dict()["published"]
    assert (found["protocol"], found["data"], found["is_comparable"]) == ("paper", "OmitI2V", False)
    wan = next(row for row in found["omiti2v"] if "Wan" in row["model"] and row["variant"] == "alignvid")
    assert (wan["addition"], wan["aesthetic_quality"]) == (79.54, 61.63)


def test_the_upper_bound_takes_what_is_open_as_right_and_the_lower_as_wrong(tmp_path):
    def decide(sample, variant, seed, question):
        if sample.id == "sample_0":
            return Verdict.FAILED if question.id == "q0" else wrong(question)
        return None if question.id == "q1" else right(question)

    score = card_of(tmp_path, [sample_of(0), sample_of(1)], decide=decide).score("baseline")
    assert score.accuracy.value == (0 / 1 + 1 / 1) / 2
    assert score.bounds == ((0 / 2 + 1 / 2) / 2, (1 / 2 + 2 / 2) / 2)


def test_the_rate_of_yes_leaves_out_replies_that_say_neither(tmp_path):
    def decide(sample, variant, seed, question):
        return {"q0": Verdict.YES, "q1": Verdict.UNPARSED, "q2": Verdict.NO, "q3": Verdict.FAILED}[question.id]

    score = card_of(tmp_path, [sample_of(0, questions=4)], decide=decide).score("baseline")
    assert score.yes_rate == 1 / 2
    assert score.expected_yes_rate == 0.0  # of q0 and q2; q1 and q3 expect yes and do not count


def test_a_job_that_failed_has_no_video_whatever_was_answered_about_it(tmp_path):
    folder = write_run(tmp_path / "run", [sample_of(n) for n in range(4)])
    failed = next(row for row in folder.videos() if (row.sample, row.variant) == ("sample_0", "baseline"))
    folder.write_video(replace(failed, status="failed", error="no memory"), None)
    score = score_run(folder, Asked(), {}).score("baseline")
    assert (score.counts.missing_videos, score.counts.missing, score.counts.unasked) == (1, 2, 0)
    assert (score.coverage, score.accuracy.value, score.accuracy_of_videos.value) == (3 / 4, 3 / 4, 1.0)


def test_a_job_that_failed_has_nothing_to_measure(tmp_path):
    folder = write_run(tmp_path / "run", [sample_of(n) for n in range(4)], metrics={"flicker": lambda s, v, e: 0.5})
    failed = next(row for row in folder.videos() if (row.sample, row.variant) == ("sample_0", "baseline"))
    folder.write_video(replace(failed, status="failed", sha256=None, file=None, error="no memory"), None)
    row = next(row for row in score_run(folder, Asked(), {}).metrics if row.variant == "baseline")
    assert (row.mean.n, row.failed, row.unmeasured, row.stale) == (3, 0, 0, 0)


def test_variants_are_compared_by_question_with_whole_samples_drawn_in_pairs(tmp_path):
    """A question of each sample is gained, in one sample two, whatever their own levels are: all draws are alike."""

    def decide(sample, variant, seed, question):
        number, index = int(sample.id.split("_")[1]), int(question.id[1:])
        level = number % 4 + (variant == "alignvid") * (2 if number == 1 else 1)
        return right(question) if index < level else wrong(question)

    samples = [sample_of(n, questions=6, categories=("edit",)) for n in range(12)]
    card = card_of(tmp_path, samples, decide=decide)
    row = next(row for row in card.comparisons if row.dimension == "question_category")
    assert row.difference.value == pytest.approx(13 / 72)
    assert 12 / 72 <= row.difference.low <= row.difference.high < 20 / 72
    assert (row.wins, row.losses) == (12, 0)
