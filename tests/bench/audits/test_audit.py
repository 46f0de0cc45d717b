import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from alignvid.bench.audits.agreement import agreement, cohens_kappa, corrected_accuracy, share
from alignvid.bench.audits.audit import AnsweredQuestion, answered_questions, draw, read_human_answers
from alignvid.bench.data.samples import Question, Sample
from alignvid.bench.judges import JudgeOptions, open_judge
from alignvid.bench.judges.judging import judge_run
from alignvid.bench.scoring.judged_run import Asked, read_judged_run
from alignvid.bench.verdicts import Verdict
from alignvid.errors import InputError
from rendered_runs import rendered_run


def question(number, *, variant="baseline", verdict=Verdict.YES, expected="yes", category="a"):
    item = Question(id="q", question="?", expected_answer=expected, category=category)
    sample = Sample(
        id=f"s{number}",
        image_path="",
        prompt="",
        main_category="addition",
        sub_category="",
        domain="",
        expected_change="",
        resolution=(64, 64),
        questions=(item,),
    )
    return AnsweredQuestion(f"{variant}{number}", variant, sample, item, "videos/a.mp4", "0", 64, 64, verdict)


def test_a_draw_gives_each_stratum_its_share():
    pool = [
        question(f"{variant}{category}{number}", variant=variant, category=category)
        for variant in ("baseline", "alignvid")
        for category, count in {"a": 60, "b": 30, "c": 10}.items()
        for number in range(count)
    ]

    drawn = Counter(item.stratum[:2] for item in draw(pool, 40, 0))

    assert {key: drawn[key] for key in drawn} == {
        (variant, category): count
        for variant in ("baseline", "alignvid")
        for category, count in {"a": 12, "b": 6, "c": 2}.items()
    }


def test_every_question_is_drawn_equally_often():
    pool = [question(number, category="ab"[number % 3 == 0]) for number in range(30)]

    drawn = Counter(item.job for seed in range(1000) for item in draw(pool, 10, seed))

    counts = np.array([drawn[item.job] for item in pool])
    assert abs(counts - 1000 / 3).max() < 75  # five standard deviations of a binomial


def test_the_same_seed_draws_the_same_and_another_one_something_else():
    pool = [question(number) for number in range(100)]
    assert draw(pool, 10, 0) == draw(pool, 10, 0) != draw(pool, 10, 1)


def test_a_small_pool_is_drawn_whole_in_random_order():
    pool = [question(number) for number in range(10)]
    drawn = draw(pool, 50, 0)
    assert sorted(item.job for item in drawn) == sorted(item.job for item in pool)
    assert drawn != pool


def confused(counts):
    """Questions, and people's answers, for {(human, judge): count}."""
    pool, people = [], {}
    for (human, verdict), count in counts.items():
        for _ in range(count):
            item = question(len(pool), verdict=verdict)
            pool.append(item)
            people[item.key] = human
    return pool, people


def test_sensitivity_and_specificity_are_those_of_the_table():
    pool, people = confused(
        {("yes", Verdict.YES): 45, ("yes", Verdict.NO): 5, ("no", Verdict.NO): 32, ("no", Verdict.YES): 8}
    )

    found = agreement(pool, people, seed=0)

    assert found.sensitivity.value == pytest.approx(0.9)
    assert found.specificity.value == pytest.approx(0.8)
    assert found.agreement.value == pytest.approx(77 / 90)
    chance = (50 * 53 + 40 * 37) / 90**2
    assert found.kappa.value == pytest.approx((77 / 90 - chance) / (1 - chance))
    assert found.kappa.low < found.kappa.value < found.kappa.high
    assert found.n == 90


def test_unclear_and_unparsed_are_counted_and_left_out():
    pool, people = confused({("yes", Verdict.YES): 3, ("unclear", Verdict.YES): 2, ("no", Verdict.UNPARSED): 4})

    found = agreement(pool, people, seed=0)

    assert (found.n, found.unclear, found.unparsed) == (3, 2, 4)
    assert found.sensitivity.value == 1
    assert found.specificity.value is None


def test_wilsons_interval_is_the_published_one():
    """20 errors in 592: 2.1 to 5.1 % (evaluation of the paper's audit)."""
    found = share(20, 592)
    assert (round(found.low, 3), round(found.high, 3)) == (0.022, 0.052)


def test_kappa_of_one_answer_only_is_nothing():
    assert cohens_kappa(np.array([[10, 0], [0, 0]])).value is None


def test_a_symmetric_error_is_corrected_as_rogan_and_gladen_do():
    """(0.65 - 0.0338) / (1 - 2 × 0.0338) = 0.661 for questions that all expect yes."""
    found = corrected_accuracy(np.array([1.0, 0.65, 0.0]), np.array(1 - 0.0338), np.array(1 - 0.0338))
    assert found == pytest.approx(0.6609, abs=1e-4)


def test_a_perfect_judge_is_not_corrected():
    parts = np.array([0.6, 0.5, 0.1])
    assert corrected_accuracy(parts, np.array(1.0), np.array(1.0)) == pytest.approx(0.5 + 0.4 - 0.1)


def test_correction_finds_the_truth_behind_a_simulated_judge():
    rng = np.random.default_rng(0)
    sensitivity, specificity = 0.92, 0.8
    pool, people, right = [], {}, 0
    for number in range(1500):
        truth = "yes" if rng.random() < 0.6 else "no"
        expected = "yes" if rng.random() < 0.5 else "no"
        says_yes = rng.random() < (sensitivity if truth == "yes" else 1 - specificity)
        item = question(number, verdict=Verdict.YES if says_yes else Verdict.NO, expected=expected)
        right += truth == expected
        pool.append(item)
        if number < 400:
            people[item.key] = truth

    (score,) = agreement(pool, people, seed=0).scores

    assert score.corrected.low < right / 1500 < score.corrected.high
    assert abs(score.corrected.value - right / 1500) < 0.03
    assert score.corrected.high - score.corrected.low < 0.2


def test_a_judge_no_better_than_chance_corrects_nothing():
    pool, people = confused({("yes", Verdict.NO): 5, ("no", Verdict.YES): 5})
    (score,) = agreement(pool, people, seed=0).scores
    assert score.corrected.value is None


def test_a_score_is_the_mean_over_samples():
    """Two questions of one sample weigh as much as one of another."""
    first, second = question(1, verdict=Verdict.YES), question(2, verdict=Verdict.NO)
    twin = replace(first, question=replace(first.question, id="r"))
    audited, people = confused({("yes", Verdict.YES): 1, ("no", Verdict.NO): 1})
    audited = [replace(item, variant="other") for item in audited]

    scores = {score.variant: score for score in agreement([first, twin, second, *audited], people, seed=0).scores}

    assert scores["baseline"].judged == 0.5


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    run = rendered_run(tmp_path_factory.mktemp("audit") / "run", samples=2)
    judge_run(run, open_judge("rule", JudgeOptions()), limit=None, on_answer=lambda row, count: None)
    return answered_questions(read_judged_run(run, Asked()))


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_answers_come_back_from_both_kinds_of_file(judged, tmp_path, suffix):
    rows = [(item.job, item.question.id, "unclear" if index else "yes") for index, item in enumerate(judged)]
    path = tmp_path / f"answers{suffix}"
    fields = ("job", "question", "answer")
    if suffix == ".json":
        path.write_text(json.dumps({"answers": [dict(zip(fields, row, strict=True)) for row in rows]}))
    else:
        path.write_text("\ufeffjob,question,answer\n" + "".join(f'"{a}","{b}","{c}"\n' for a, b, c in rows))

    found = read_human_answers(path, {item.key: item for item in judged})

    assert found == {(job, name): answer for job, name, answer in rows}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read as answers"),
        ("[1]", "cannot be read as answers"),
        ('{"answers": 3}', "holds no list of answers"),
        ('{"answers": []}', "holds no answer"),
        ('{"answers": [{"job": "a"}]}', "answer 1 lacks the field 'question', 'answer'"),
        (
            '{"answers": [{"job": "a", "question": "b", "answer": "maybe"}]}',
            "is 'maybe'; it must be 'yes', 'no' or 'unclear'",
        ),
        ('{"answers": [{"job": "a", "question": "b", "answer": "no"}]}', "which the judge did not answer"),
    ],
)
def test_a_damaged_file_of_answers_is_refused_by_row(judged, tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_human_answers(tmp_path / "a.json", {item.key: item for item in judged})


def test_an_answer_given_twice_is_refused(judged, tmp_path):
    row = {"job": judged[0].job, "question": judged[0].question.id, "answer": "yes"}
    (tmp_path / "a.json").write_text(json.dumps({"answers": [row, row]}))
    with pytest.raises(InputError, match="a second time"):
        read_human_answers(tmp_path / "a.json", {item.key: item for item in judged})
