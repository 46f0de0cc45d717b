import numpy as np
import pytest
import torch
from PIL import Image

import alignvid
from alignvid.bench.data.samples import Question, Sample
from alignvid.bench.runs.jobs import Task, make_job
from alignvid.bench.runs.sharing import Encodings, digest_of
from alignvid.bench.runs.spec import BenchSpec
from alignvid.bench.runs.variants import Variant
from alignvid.bench.runs.worker import PipelineWorker
from alignvid.blocks import BlockSet
from alignvid.generate.call import Settings
from alignvid.media.images import png_bytes
from alignvid.modulation import Alg, Nag, Scalar
from alignvid.recipe import Recipe
from alignvid.schedule import StepWindow
from pipelines import generate
from reading_pipelines import hunyuan_i2v_token_replace_reading

STEPS = 10
IMAGE = png_bytes(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)))
SAMPLES = [
    Sample(
        id=f"s{number}",
        image_path="s.png",
        prompt=prompt,
        main_category="addition",
        sub_category="",
        domain="",
        expected_change="",
        resolution=(64, 64),
        questions=(Question(id="q", question="?", expected_answer="yes", category="c"),),
    )
    for number, prompt in enumerate(("remove the red circle", "add a blue square at the centre", "turn the box green"))
]


def gain(gamma, start, stop, branch="both"):
    window = StepWindow.fraction(start, stop)
    return Recipe(Scalar(gamma, {"cross.text": 1.0}), BlockSet.of("all"), window, branch)


def job(variant, sample=SAMPLES[0], seed=0, guidance=1.0):
    settings = Settings(64, 64, 9, STEPS, guidance, 8.0)
    shared = {"dtype": "float32", "batch": 1}
    return make_job(sample, variant, seed, settings, image="s.png", image_sha256="0", model={}, shared=shared)


def tasks_of(variants, **inputs):
    return [Task((job(variant, **inputs),), tuple(variants[index + 1 :])) for index, variant in enumerate(variants)]


@pytest.fixture(scope="module")
def worker():
    return PipelineWorker(BenchSpec(data="omitshapes", variants=("baseline",)))


def separate(worker, task):
    """The frames' digest of a task that shares nothing."""
    worker.trajectories.forget()
    worker.encodings.forget()
    (made,) = worker.run(Task(task.jobs, ()), [IMAGE])
    return made.record.frames_sha256


def together(worker, tasks):
    """The frames' digests, and how many transformer forwards they took."""
    worker.trajectories.forget()
    worker.encodings.forget()
    before = worker.trajectories.forward_count
    digests = [made.record.frames_sha256 for task in tasks for made in worker.run(task, [IMAGE])]
    return digests, worker.trajectories.forward_count - before


def test_a_sweep_over_a_late_window_makes_the_beginning_once_and_is_bit_equal(worker):
    variants = [Variant("baseline"), *(Variant(str(g), gain(g, 0.7, 1.0)) for g in (1.5, 2.0, 3.0))]
    tasks = tasks_of(variants)

    digests, forwards = together(worker, tasks)

    assert forwards == STEPS + 3 * 3
    assert digests == [separate(worker, task) for task in tasks]
    assert len(set(digests)) == 4


def test_an_active_beginning_is_shared_too(worker):
    variants = [
        Variant("short", gain(2.0, 0.0, 0.3)),
        Variant("long", gain(2.0, 0.0, 0.8)),
        Variant("all", gain(2.0, 0.0, 1.0)),
    ]
    tasks = tasks_of(variants)

    digests, forwards = together(worker, tasks)

    assert forwards == STEPS + 7 + 2
    assert digests == [separate(worker, task) for task in tasks]


def test_early_windows_with_other_gains_share_nothing(worker):
    tasks = tasks_of([Variant("a", gain(1.5, 0.0, 0.3)), Variant("b", gain(2.0, 0.0, 0.3))])

    _, forwards = together(worker, tasks)

    assert forwards == 2 * STEPS
    assert not worker.trajectories._kept  # and nothing is kept for nobody


def test_with_guidance_a_branch_of_its_own_is_bit_equal_too(worker):
    variants = [Variant("baseline"), Variant("cond", gain(2.0, 0.8, 1.0, "cond")), Variant("both", gain(2.0, 0.8, 1.0))]
    tasks = tasks_of(variants, guidance=3.0)

    digests, forwards = together(worker, tasks)

    assert forwards < 2 * 3 * STEPS / 2
    assert digests == [separate(worker, task) for task in tasks]


@pytest.mark.slow
def test_a_third_pass_and_a_negative_text_are_shared_where_they_are_the_same(worker):
    alg = [Recipe(Alg(), BlockSet.of("all"), StepWindow.fraction(0.0, stop)) for stop in (0.2, 0.4)]
    nag = Recipe(Nag(scale=4.0), BlockSet.of("all"), StepWindow.fraction(0.8, 1.0), "cond")
    tasks = tasks_of([Variant("short", alg[0]), Variant("long", alg[1]), Variant("nag", nag)], guidance=3.0)

    digests, forwards = together(worker, tasks)

    assert forwards == (2 * STEPS + 2) + (2 * (STEPS - 2) + 2) + 2 * STEPS  # of short's first steps, long makes none
    assert digests == [separate(worker, task) for task in tasks] and len(set(digests)) == 3


def test_other_noise_shares_no_trajectory(worker):
    tasks = [*tasks_of([Variant("baseline")]), *tasks_of([Variant("baseline")], seed=1)]

    digests, forwards = together(worker, tasks)

    assert forwards == 2 * STEPS
    assert digests[0] != digests[1]


def test_encoders_run_once_per_sample(worker):
    pipeline, calls = worker.pipeline, []
    parts = {
        "text": pipeline.text_encoder.encoder,
        "image": pipeline.image_encoder.embeddings,
        "vae": pipeline.vae.encoder,
    }
    handles = [part.register_forward_pre_hook(lambda *_, name=name: calls.append(name)) for name, part in parts.items()]
    try:
        together(worker, tasks_of([Variant("a", gain(1.5, 0.0, 1.0)), Variant("b", gain(2.0, 0.0, 1.0))]))
        first = sorted(calls)
        calls.clear()
        together(worker, tasks_of([Variant("a", gain(1.5, 0.0, 1.0))]))
    finally:
        for handle in handles:
            handle.remove()

    assert first == sorted(calls)
    assert set(first) == {"text", "image", "vae"}


def test_nothing_is_left_on_the_pipeline(worker):
    together(worker, tasks_of([Variant("a", gain(1.5, 0.0, 1.0))]))

    for part in (worker.pipeline.transformer, worker.pipeline.vae, worker.pipeline.text_encoder):
        assert not {"forward", "encode"} & set(vars(part))


def test_a_failed_job_leaves_the_worker_whole(worker):
    broken = tasks_of([Variant("low", guidance=None)])[0]
    (made,) = worker.run(broken, [b"no image"])

    assert made.record.status == "failed"
    assert "is not an image" in made.record.error
    assert separate(worker, broken)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.tensor([0.0]), torch.tensor([-0.0])),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(4), torch.zeros(2, dtype=torch.float64)),
        ([1, [2]], [[1], 2]),
        ("1", 1),
        (1, True),
        ({"a": 1}, {"a": 2}),
        (None, []),
    ],
    ids=str,
)
def test_a_digest_tells_apart_what_is_not_the_same_in_every_bit(one, other):
    assert digest_of(one) != digest_of(other)


def test_a_digest_does_not_depend_on_strides():
    values = torch.arange(6.0).view(2, 3)
    expanded = torch.tensor([7]).expand(3)

    assert digest_of(values) == digest_of(values.t().contiguous().t())
    assert digest_of(expanded) == digest_of(torch.tensor([7, 7, 7]))
    assert digest_of(torch.ones(2, dtype=torch.bfloat16)) is not None


def test_what_has_no_bits_to_compare_is_not_shared():
    assert digest_of(object()) is None


@pytest.mark.slow
def test_in_a_batch_no_clip_depends_on_which_others_run():
    batched = PipelineWorker(BenchSpec(data="omitshapes", variants=("baseline",), batch=3))
    variant = Variant("a", gain(2.0, 0.5, 1.0))
    jobs = [job(variant, sample) for sample in SAMPLES]
    all_three = batched.run(Task(tuple(jobs), ()), [IMAGE] * 3)
    alone = batched.run(Task((jobs[2],), ()), [IMAGE])
    turned = batched.run(Task((jobs[2], jobs[0]), ()), [IMAGE] * 2)

    digests = [made.record.frames_sha256 for made in all_three]
    assert digests[2] == alone[0].record.frames_sha256 == turned[0].record.frames_sha256
    assert digests[0] == turned[1].record.frames_sha256
    assert len(set(digests)) == 3


def test_a_ctrl_c_that_a_library_turned_into_an_error_is_no_failed_job(worker, monkeypatch):
    def interrupted(*arguments):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("trying to pop from empty mode stack")

    monkeypatch.setattr(worker, "_clips", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.run(tasks_of([Variant("baseline")])[0], [IMAGE])


def test_vision_tokens_of_a_shared_encoding_are_told_from_its_words():
    """The language model runs for the baseline alone, before anything is attached."""
    pipe, call = hunyuan_i2v_token_replace_reading()
    encodings, readings = Encodings(pipe), []
    hook = pipe.text_encoder.get_decoder().register_forward_hook(lambda *_: readings.append(1))
    with encodings.shared():
        plain = generate(pipe, call)
    with encodings.shared(), alignvid.attach(pipe, streams=["vision"]):
        shared = generate(pipe, call)
    hook.remove()
    assert len(readings) == 1
    with alignvid.attach(pipe, streams=["vision"]):
        assert torch.equal(generate(pipe, call), shared)
    assert not torch.equal(plain, shared)
