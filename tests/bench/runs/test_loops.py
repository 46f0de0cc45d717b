"""Variants that make several attempts, and the judge that they ask."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from alignvid.bench.data.omitshapes import omitshapes, scene_of
from alignvid.bench.runs.jobs import make_job
from alignvid.bench.runs.loops import attempt_noise, chosen_clips, made_wrong
from alignvid.bench.runs.variants import Variant, parse_variants
from alignvid.errors import InputError
from alignvid.following.questions import Answer, Answered, Question
from alignvid.generate.call import Settings
from alignvid.generate.loading import find_model
from alignvid.generate.sketch import sketch
from alignvid.miniature.drawing import first_frame, render


def samples():
    """Asked when a test runs: making the data set takes seconds under the type checker."""
    return omitshapes().samples[:3]


@pytest.fixture(scope="module")
def model():
    return sketch(find_model("miniature"))


def jobs(variant):
    settings = Settings(width=64, height=64, frames=9, steps=10, guidance=1.0, fps=8.0)
    options = {"image": "x.png", "image_sha256": "0", "model": {}, "shared": {"dtype": "float32", "batch": 1}}
    return [make_job(sample, variant, 0, settings, **options) for sample in samples()]


def chosen(variant, *, shown_in):
    """What a loop chooses where the edit of each sample is shown in this attempt alone, and how many clips it made."""
    own = jobs(variant)
    pictures = [Image.fromarray(first_frame(scene_of(job.sample.id))) for job in own]
    sizes, attempts = [], {job.sample.id: 0 for job in own}

    def make(again, given):
        sizes.append(len(again))
        assert len(given) == len(again)
        for job in again:
            attempts[job.sample.id] += 1
        turns = [attempts[job.sample.id] == shown_in[job.sample.id] for job in again]
        return [render(scene_of(job.sample.id), shown=turn) for job, turn in zip(again, turns, strict=True)]

    return own, chosen_clips(own, pictures, make), sizes


def test_a_loop_stops_for_each_sample_by_itself_and_keeps_the_clip_that_is_right():
    shown_in = {sample.id: turn for sample, turn in zip(samples(), (1, 2, 9), strict=True)}
    own, found, sizes = chosen(Variant("follow", budget=3), shown_in=shown_in)
    assert sizes == [3, 2, 1] and [one.attempts for one in found] == [1, 2, 3]
    assert [one.noise_seed for one in found[:2]] == [
        own[0].noise_seed,
        attempt_noise(own[1].noise_seed, 2),
    ]
    assert np.array_equal(found[1].clip, render(scene_of(samples()[1].id)))


def test_best_of_n_makes_all_of_them_and_takes_the_earliest_of_equals():
    shown_in = {sample.id: turn for sample, turn in zip(samples(), (1, 2, 9), strict=True)}
    own, found, sizes = chosen(Variant("best", n=3), shown_in=shown_in)
    assert sizes == [3, 3, 3] and found[1].noise_seed == attempt_noise(own[1].noise_seed, 2)
    assert found[2].noise_seed == own[2].noise_seed  # a video that stands still is not shown, whichever it is


def test_a_judge_made_wrong_ends_a_loop_too_early_or_too_late():
    shown_in = {sample.id: 1 for sample in samples()}
    never = {sample.id: 9 for sample in samples()}
    _, late, _ = chosen(Variant("late", budget=3, false_no=1.0), shown_in=shown_in)
    assert [one.attempts for one in late] == [3, 3, 3]
    answers = tuple(Answered(Question(str(number)), Answer(0.0)) for number in range(1000))
    wrong = made_wrong(answers, false_yes=0.1, false_no=0.0, key="a")
    assert 70 < sum(one.says == "yes" for one in wrong) < 130
    assert wrong == made_wrong(answers, false_yes=0.1, false_no=0.9, key="a")
    assert [one.attempts for one in chosen(Variant("f", budget=2, false_yes=1.0), shown_in=never)[1]] == [2, 2, 2]


def test_variants_are_written_as_settings_and_a_loop_without_a_recipe_has_the_model_s_own_preset(model):
    follow, best, wrong = parse_variants(
        ["follow: budget=3, best-of: n=3, wrong: budget=2 false_yes=0.03 gamma=1.2"], model
    )
    (own,) = parse_variants(["alignvid"], model)
    assert (follow.name, follow.budget, follow.recipe) == ("follow", 3, own.recipe)
    assert (best.n, best.recipe) == (3, None) and wrong.false_yes == 0.03 and wrong.recipe.gamma == 1.2
    assert Variant.from_dict(follow.to_dict()) == follow
    ids = {make.id for variant in (follow, replace(follow, budget=4), own) for make in jobs(variant)[:1]}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("budget=0", "budget=0 is out of range"),
        ("budget=1.5", "budget=1.5 is no number of attempts"),
        ("n=2 budget=3", "budget and n exclude each other"),
        ("false_yes=0.1", "false_yes is of the judge that a loop asks"),
        ("n=2 false_no=1.5", "false_no=1.5 is out of range"),
    ],
)
def test_a_loop_that_cannot_be_is_refused(model, text, message):
    with pytest.raises(InputError, match=message):
        parse_variants([f"x: {text}"], model)


@pytest.mark.slow
def test_a_loop_s_video_is_that_of_a_single_run_with_its_noise_in_batches_or_not(tmp_path):
    from alignvid.bench.run_folder import RunFolder
    from alignvid.bench.runs.running import run
    from alignvid.bench.runs.spec import BenchSpec
    from alignvid.generate import GenerationSpec, generate

    shared = {"data": "omitshapes", "limit": 2, "steps": 3, "seeds": (0,)}
    for batch in (1, 2):
        spec = BenchSpec(**shared, variants=("alignvid", "follow: budget=2", "best: n=2"), batch=batch)
        assert not run(spec, tmp_path / f"run-{batch}").failed
    rows = RunFolder(tmp_path / "run-1").videos()
    attempts = {row.variant: row.attempts for row in rows}
    assert attempts["alignvid"] is None and attempts["follow"] in (1, 2) and attempts["best"] == 2
    row = next(row for row in rows if row.variant == "follow")
    sample = next(sample for sample in samples() if sample.id == row.sample)
    image = tmp_path / "run-1" / "images" / f"{sample.id}.png"
    spec = GenerationSpec(image=str(image), prompt=sample.prompt, seed=row.noise_seed, steps=3)
    alone = generate(spec, tmp_path / "alone").record.outputs["alignvid"]
    assert alone["frames_sha256"] == row.frames_sha256
    in_batches = {(row.sample, row.variant): row.attempts for row in RunFolder(tmp_path / "run-2").videos()}
    assert in_batches == {(row.sample, row.variant): row.attempts for row in rows}
