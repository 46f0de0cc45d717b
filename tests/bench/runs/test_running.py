import json
import os
import random
import signal
import time
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest

from alignvid.bench.run_folder import RunFolder
from alignvid.bench.runs.plan import make_plan
from alignvid.bench.runs.pools import LocalPool
from alignvid.bench.runs.running import run_plan
from alignvid.bench.runs.spec import BenchSpec
from alignvid.errors import InputError, OutputError
from bench_stub import StubWorker, computed, contents, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "set", 4)


@pytest.fixture(scope="module")
def planned(data):
    """Plans by changes to one spec; made once each, for a plan takes a second."""
    made = {}

    def plan(**changes):
        key = json.dumps(changes, sort_keys=True)
        if key not in made:
            fields = {"data": str(data), "variants": ("baseline,strong: gamma=2",), "seeds": (0, 1), **changes}
            fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
            made[key] = make_plan(BenchSpec(**fields))
        return made[key]

    return plan


def do(plan, out, log, **behaviour):
    return run_plan(plan, out, pool=LocalPool(lambda: StubWorker(log, **behaviour)))


def test_every_sample_variant_and_seed_gets_a_video_and_a_record(planned, tmp_path):
    result = do(planned(), tmp_path / "run", tmp_path / "log")

    assert (result.planned, result.done_before, result.made, result.failed) == (16, 0, 16, [])
    folder = RunFolder(tmp_path / "run")
    rows = folder.videos()
    assert len({(row.sample, row.variant, row.seed) for row in rows}) == 16
    assert all(folder.is_whole(row) for row in rows)
    assert folder.info().variant_names == ["baseline", "strong"]
    assert all((folder.path / sample.image_path).is_file() for sample in folder.samples())


def test_the_same_line_again_makes_nothing(planned, tmp_path):
    do(planned(), tmp_path / "run", tmp_path / "log")
    before = contents(tmp_path / "run")

    result = do(planned(), tmp_path / "run", tmp_path / "log")

    assert (result.done_before, result.made) == (16, 0)
    assert contents(tmp_path / "run") == before
    assert len(computed(tmp_path / "log")) == 16


def test_more_variants_seeds_and_samples_are_added(planned, tmp_path):
    do(planned(limit=2, seeds=[0]), tmp_path / "run", tmp_path / "log")
    do(planned(variants=["late: gamma=2 steps-window=0.7-1.0"], seeds=[1]), tmp_path / "run", tmp_path / "log")

    info = RunFolder(tmp_path / "run").info()
    assert info.variant_names == ["baseline", "strong", "late"]
    assert info.seeds == [0, 1]
    assert len(RunFolder(tmp_path / "run").samples()) == 4
    assert len(computed(tmp_path / "log")) == 2 * 2 + 4


def test_a_smaller_limit_leaves_the_larger_plan(planned, tmp_path):
    do(planned(), tmp_path / "run", tmp_path / "log")

    result = do(planned(limit=1), tmp_path / "run", tmp_path / "log")

    assert (result.planned, result.made) == (4, 0)
    assert len(RunFolder(tmp_path / "run").samples()) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 3}, "steps None, and 3 was given"),
        ({"guidance": 3.0}, "guidance None"),
        ({"variants": ["baseline,strong: gamma=3"]}, "variant 'strong'"),
    ],
)
def test_a_changed_plan_in_the_same_folder_is_refused(planned, tmp_path, changes, message):
    do(planned(), tmp_path / "run", tmp_path / "log")
    before = contents(tmp_path / "run")

    with pytest.raises(InputError, match=rf"{message}.*give another --out"):
        do(planned(**changes), tmp_path / "run", tmp_path / "log")

    assert contents(tmp_path / "run") == before


def test_other_data_in_the_same_folder_is_refused(planned, tmp_path):
    do(planned(), tmp_path / "run", tmp_path / "log")
    other = write_data(tmp_path / "other", 3)

    with pytest.raises(InputError, match=r"data .*give another --out"):
        do(planned(data=str(other)), tmp_path / "run", tmp_path / "log")


def test_another_model_in_the_same_folder_is_refused(planned, tmp_path):
    do(planned(), tmp_path / "run", tmp_path / "log")
    plan = planned()
    other = replace(plan, info=replace(plan.info, model={**plan.info.model, "digest": "0"}))

    with pytest.raises(InputError, match=r"model .*give another --out"):
        do(other, tmp_path / "run", tmp_path / "log")


def test_a_variants_name_does_not_decide_its_videos(planned):
    ids = {job.variant.name: job.id for job in planned(variants=["a: gamma=2", "b: gamma=2", "c: gamma=3"]).jobs}

    assert ids["a"] == ids["b"] != ids["c"]


def test_a_job_that_raises_is_recorded_and_tried_again_last(planned, tmp_path):
    result = do(planned(), tmp_path / "run", tmp_path / "log", raises=frozenset({"sample_0"}))

    assert (result.made, len(result.failed)) == (12, 4)
    assert {row.error for row in RunFolder(tmp_path / "run").videos() if row.status == "failed"} == {
        "ValueError: no luck"
    }

    result = do(planned(), tmp_path / "run", tmp_path / "log")
    assert (result.done_before, result.made, result.failed) == (12, 4, [])


def test_a_video_that_was_damaged_is_made_again(planned, tmp_path):
    do(planned(), tmp_path / "run", tmp_path / "log")
    before = contents(tmp_path / "run")
    video = next((tmp_path / "run" / "videos").glob("*.mp4"))
    video.write_bytes(b"half")

    result = do(planned(), tmp_path / "run", tmp_path / "log")

    assert result.made == 1
    assert contents(tmp_path / "run") == before


def test_shards_make_every_job_once(planned, tmp_path):
    for index in range(3):
        plan = planned()
        do(replace(plan, spec=replace(plan.spec, shard=(index, 3))), tmp_path / "run", tmp_path / "log")

    counts = Counter(computed(tmp_path / "log"))
    assert len(counts) == 16
    assert set(counts.values()) == {1}
    assert do(planned(), tmp_path / "run", tmp_path / "log").made == 0


def at_the_same_time(runs):
    """Exit codes of functions in processes of their own."""
    return [wait_for(child) for child in [start(run) for run in runs]]


def test_shards_that_start_at_the_same_moment_make_every_job_once(planned, tmp_path):
    plans = [replace(planned(), spec=replace(planned().spec, shard=(index, 3))) for index in range(3)]

    codes = at_the_same_time([partial(do, plan, tmp_path / "run", tmp_path / "log", pause_s=0.01) for plan in plans])

    assert codes == [0, 0, 0]
    assert sorted(computed(tmp_path / "log")) == sorted(job.id for job in planned().jobs)
    do(planned(), tmp_path / "calm", tmp_path / "calm-log")
    assert contents(tmp_path / "run") == contents(tmp_path / "calm")


def test_variants_that_are_added_at_the_same_moment_are_all_planned(planned, tmp_path):
    plans = [planned(variants=[f"v{index}: gamma=1.{index}"], seeds=[0]) for index in range(1, 5)]
    plans = [replace(plan, spec=replace(plan.spec, shard=(index, 4))) for index, plan in enumerate(plans)]

    assert at_the_same_time([partial(do, plan, tmp_path / "run", tmp_path / "log") for plan in plans]) == [0] * 4

    assert sorted(RunFolder(tmp_path / "run").info().variant_names) == ["v1", "v2", "v3", "v4"]


def test_a_second_process_on_the_same_jobs_is_refused_and_the_first_goes_on(planned, tmp_path):
    first = start(partial(do, planned(), tmp_path / "run", tmp_path / "log", pause_s=0.05))
    while not computed(tmp_path / "log"):
        time.sleep(0.01)

    with pytest.raises(InputError, match=r"is being run by another process; .*--shard 0/2 and 1/2"):
        do(planned(), tmp_path / "run", tmp_path / "log")

    assert wait_for(first) == 0
    assert len(computed(tmp_path / "log")) == 16


def test_a_sample_that_cannot_be_used_is_counted_with_its_reason(tmp_path):
    data = write_data(tmp_path / "set", 4)
    (data / "0.png").unlink()
    (data / "1.png").write_bytes((data / "1.png").read_bytes()[:-30])
    plan = make_plan(BenchSpec(data=str(data), variants=("baseline",), max_pixels=32 * 32))

    result = do(plan, tmp_path / "run", tmp_path / "log")

    assert set(result.unusable) == {"sample_0", "sample_1"}
    rows = RunFolder(tmp_path / "run").info().data["unusable"]
    assert [row["sample"] for row in rows] == ["sample_0", "sample_1"]
    assert "cannot be read" in rows[0]["reason"]
    assert "damaged" in rows[1]["reason"]
    assert result.made == 2


def test_an_image_above_the_limit_is_unusable(data):
    with pytest.raises(InputError, match=r"No sample .* can be used: sample_0: .*the limit is"):
        make_plan(BenchSpec(data=str(data), variants=("baseline",), max_pixels=100))


def start(run):
    """Run a function in a process of its own; the child never returns into the test."""
    if child := os.fork():
        return child
    try:
        run()
        os._exit(0)
    except BaseException:
        os._exit(3)


def wait_for(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("kills", [30])
def test_killed_at_random_moments_a_run_ends_as_if_undisturbed(planned, tmp_path, kills):
    do(planned(), tmp_path / "calm", tmp_path / "calm-log")
    random.seed(0)
    killed = 0
    for _ in range(kills):
        child = start(lambda: do(planned(), tmp_path / "run", tmp_path / "log", pause_s=0.01))
        time.sleep(random.uniform(0.0, 0.06))
        os.kill(child, signal.SIGKILL)
        killed += wait_for(child) == -signal.SIGKILL

    while do(planned(), tmp_path / "run", tmp_path / "log").failed:
        pass

    assert killed >= kills // 2
    assert contents(tmp_path / "run") == contents(tmp_path / "calm")
    assert len(computed(tmp_path / "log")) <= 16 + killed  # one worker: at most one job is lost per kill


def test_a_job_that_kills_its_process_is_set_aside_and_the_others_are_made(planned, tmp_path):
    def crash():
        do(planned(), tmp_path / "run", tmp_path / "log", dies=frozenset({"sample_1"}))

    codes = []
    while len(codes) < 20 and (not codes or codes[-1]):
        codes.append(wait_for(start(crash)))

    assert codes == [1] * 12 + [0]  # 4 jobs of the sample, 3 crashes each
    rows = RunFolder(tmp_path / "run").videos()
    failed = [row for row in rows if row.status == "failed"]
    assert {row.sample for row in failed} == {"sample_1"}
    assert "died 3 times" in failed[0].error
    assert len(rows) == 16

    assert do(planned(), tmp_path / "run", tmp_path / "log").failed == []


def test_an_interrupt_keeps_what_is_finished_and_is_no_crash(planned, tmp_path):
    class Interrupted(StubWorker):
        def run(self, task, images):
            if len(computed(self.log)) == 5:
                raise KeyboardInterrupt
            return super().run(task, images)

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            run_plan(planned(), tmp_path / "run", pool=LocalPool(lambda: Interrupted(tmp_path / "log")))

    assert len(RunFolder(tmp_path / "run").videos()) == 5
    assert do(planned(), tmp_path / "run", tmp_path / "log").made == 11


def test_a_full_disk_ends_the_run_with_a_sentence_and_loses_nothing(planned, tmp_path):
    def fill():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))  # no file may be larger: as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            do(planned(), tmp_path / "run", tmp_path / "log")
        except OutputError as error:
            assert "Cannot write" in str(error)
            os._exit(7)

    do(planned(limit=1), tmp_path / "run", tmp_path / "log")
    before = contents(tmp_path / "run")
    assert wait_for(start(fill)) == 7

    after = contents(tmp_path / "run")
    assert {name: after[name] for name in before if name != "samples.jsonl"} == {
        name: content for name, content in before.items() if name != "samples.jsonl"
    }


def test_a_folder_that_cannot_be_written_is_refused(planned, tmp_path):
    (tmp_path / "run").write_text("a file")

    with pytest.raises(OutputError, match="choose another output folder"):
        do(planned(), tmp_path / "run", tmp_path / "log")
