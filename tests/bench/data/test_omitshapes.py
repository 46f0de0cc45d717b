from collections import Counter

import pytest

from alignvid.bench.data.claims import Claim
from alignvid.bench.data.halves import half_of
from alignvid.bench.data.omitshapes import claim_of, sample_of, scene_of
from alignvid.bench.data.opening import open_data
from alignvid.errors import InputError
from alignvid.miniature.scenes import DEVELOPMENT, EDIT_KINDS, HELD_OUT, TRAIN, Shape


@pytest.fixture(scope="module")
def samples():
    return open_data("omitshapes").samples


def answer(question, shapes):
    return "yes" if claim_of(question).holds(shapes.__contains__) else "no"


def test_there_are_367_samples_with_omiti2vs_shares(samples):
    counts = Counter(sample.main_category for sample in samples)

    assert len(samples) == 367
    shares = {"modification": 0.3419, "addition": 0.3316, "deletion": 0.3265}
    assert all(abs(counts[name] / 367 - share) < 0.002 for name, share in shares.items())


def test_every_scene_is_held_out(samples):
    seeds = {int(sample.id.split("-")[1]) for sample in samples}

    assert len(seeds) == 367
    assert all(seed in HELD_OUT and seed not in TRAIN and seed not in DEVELOPMENT for seed in seeds)


def test_an_id_rebuilds_its_scene(samples):
    for sample in samples[:20]:
        scene = scene_of(sample.id)
        assert scene.edit.kind == sample.sub_category
        assert sample_of(int(sample.id.split("-")[1]), scene.edit.kind) == sample


@pytest.mark.parametrize("name", ["scene-1", "scene-1-jump", "sample_0", "scene--add", ""])
def test_an_id_of_another_data_set_is_refused(name):
    with pytest.raises(InputError, match="no sample of OmitShapes"):
        scene_of(name)


def test_expected_answers_are_true_of_the_finished_edit(samples):
    for sample in samples[::4]:
        shapes = scene_of(sample.id).edited_shapes
        assert [answer(question, shapes) for question in sample.questions] == [
            question.expected_answer for question in sample.questions
        ]


def test_a_video_that_copies_the_image_gets_the_question_for_the_edit_wrong(samples):
    for sample in samples[::4]:
        assert answer(sample.questions[0], scene_of(sample.id).shapes) != sample.questions[0].expected_answer


def test_every_sample_has_two_to_six_questions_of_both_answers(samples):
    for sample in samples:
        assert 2 <= len(sample.questions) <= 6
        assert {question.expected_answer for question in sample.questions} == {"yes", "no"}
        assert len({question.id for question in sample.questions}) == len(sample.questions)


def test_neither_always_yes_nor_always_no_is_a_good_judge(samples):
    answers = Counter(question.expected_answer for sample in samples for question in sample.questions)

    assert 0.4 < answers["yes"] / answers.total() < 0.6


def test_every_kind_of_question_is_asked_often_enough_to_be_counted(samples):
    counts = Counter(question.category for sample in samples for question in sample.questions)

    assert set(counts) == {
        "action_correctness",
        "object_presence",
        "object_colour",
        "object_place",
        "object_size",
        "object_count",
        "preservation",
    }
    assert min(counts.values()) >= 20


def test_no_two_questions_of_a_sample_give_each_other_away(samples):
    for sample in samples:
        claims = [claim_of(question) for question in sample.questions]
        assert not any(a.is_about_the_same_as(b) for i, a in enumerate(claims) for b in claims[:i])


def test_wordings_vary(samples):
    texts = Counter(question.question.split()[0] for sample in samples for question in sample.questions)

    assert len(texts) >= 4


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_questions_of_any_seed_and_edit_are_sound(kind):
    for seed in range(40):
        sample = sample_of(seed, kind)
        assert {question.expected_answer for question in sample.questions} == {"yes", "no"}


@pytest.mark.parametrize(
    ("text", "shapes", "expected"),
    [
        ("some-red-circle-any-4", [Shape("circle", "red", 4, "small")], True),
        ("some-red-circle-any-4", [Shape("circle", "red", 3, "small")], False),
        ("some-red-any-large-any", [Shape("circle", "red", 3, "small")], False),
        ("0-red-circle-any-any", [Shape("square", "red", 3, "small")], True),
        ("0-any-any-any-any", [], True),
        ("2-any-any-any-any", [Shape("circle", "red", 3, "small"), Shape("circle", "red", 5, "small")], True),
        ("2-any-any-any-any", [Shape("circle", "red", 3, "small")], False),
    ],
)
def test_a_claim_is_answered_from_what_is_seen(text, shapes, expected):
    assert Claim.parse(text).holds(shapes.__contains__) is expected
    assert Claim.parse(text).is_true_of(shapes) is expected


def test_a_count_counts_cells_not_readings():
    """A judge that cannot distinguish a small circle from a small square sees one shape there, not two."""
    readings = [Shape("circle", "red", 3, "small"), Shape("square", "red", 3, "small")]

    assert Claim(quantity=1).holds(readings.__contains__)


@pytest.mark.parametrize(
    "text", ["", "some", "some-red-circle-any-9", "any-red-circle-any-4", "q1", "10-any-any-any-any"]
)
def test_what_is_no_claim_is_refused(text):
    with pytest.raises(InputError, match="no question of OmitShapes"):
        Claim.parse(text)


def test_an_id_says_the_whole_claim():
    for claim in (Claim(), Claim(quantity=0, colour="red"), Claim(kind="circle", size="small", cell=8)):
        assert Claim.parse(claim.id) == claim


def test_the_halves_are_of_like_size_and_fixed(samples):
    counts = Counter(half_of(sample.id) for sample in samples)

    assert counts == {"development": 195, "claim": 172}
