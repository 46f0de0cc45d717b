import os
import random
import signal
import sys
from contextlib import suppress
from functools import partial

import pytest

import bench_stub
from alignvid.bench.runs.plan import make_plan
from alignvid.bench.runs.pools import LocalPool
from alignvid.bench.runs.ray_pool import RayPool
from alignvid.bench.runs.running import run_plan
from alignvid.bench.runs.spec import BenchSpec
from alignvid.errors import InputError, MissingExtra
from bench_stub import StubWorker, computed, contents, write_data

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow  # a worker imports torch and diffusers anew, after every kill


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(write_data(tmp_path_factory.mktemp("data") / "set", 6))


@pytest.fixture(scope="module")
def plan(data):
    return make_plan(BenchSpec(data=data, variants=("baseline",)))


@pytest.fixture(scope="module", autouse=True)
def stub_travels():
    """Workers cannot import the tests."""
    ray.cloudpickle.register_pickle_by_value(bench_stub)


def undisturbed(plan, folder):
    run_plan(plan, folder / "calm", pool=LocalPool(lambda: StubWorker(folder / "calm-log")))
    return contents(folder / "calm")


def run_with_kills(plan, folder, count, **behaviour):
    """Run on two workers and kill, `count` times at random, the one that has begun a job last."""
    log, kills = folder / "log", []
    rng = random.Random(1)

    def kill_somebody(record):
        if len(kills) < count and rng.random() < 0.5:
            kills.append(log.read_text().split()[-1])
            with suppress(ProcessLookupError):
                os.kill(int(kills[-1]), signal.SIGKILL)

    pool = RayPool(partial(StubWorker, log, **behaviour), workers=2)
    return run_plan(plan, folder / "run", pool=pool, on_record=kill_somebody), len(kills)


def test_two_workers_of_which_one_is_killed_end_as_one_undisturbed(plan, tmp_path):
    result, kills = run_with_kills(plan, tmp_path, 1, pause_s=0.2)

    assert result.failed == []
    assert kills == 1
    assert contents(tmp_path / "run") == undisturbed(plan, tmp_path)
    assert len(computed(tmp_path / "log")) <= len(plan.jobs) + 1
    assert len({line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}) >= 2


@pytest.mark.timeout(1800)
def test_ten_kills_and_a_fatal_sample_cost_a_job_each_and_nothing_else(data, tmp_path):
    plan = make_plan(BenchSpec(data=data, variants=("baseline",), seeds=tuple(range(4))))
    fatal = {job.id for job in plan.jobs if job.sample.id == "sample_5"}

    result, kills = run_with_kills(plan, tmp_path, 10, pause_s=0.2, dies=frozenset({"sample_5"}))

    assert {row.job for row in result.failed} == fatal
    assert all("died 3 times" in (row.error or "") for row in result.failed)
    runs = computed(tmp_path / "log")
    assert len([job for job in runs if job not in fatal]) <= len(plan.jobs) - len(fatal) + kills
    run_plan(plan, tmp_path / "run", pool=LocalPool(lambda: StubWorker(tmp_path / "log")))
    assert contents(tmp_path / "run") == undisturbed(plan, tmp_path)


def test_a_worker_that_cannot_load_its_model_says_so_once(plan, tmp_path):
    def no_model():
        raise InputError("Model 'x' is not there.")

    with pytest.raises(InputError, match="Model 'x' is not there"):
        run_plan(plan, tmp_path / "run", pool=RayPool(no_model))


def test_a_worker_that_cannot_load_its_model_for_another_reason_says_that(plan, tmp_path):
    def no_memory():
        raise MemoryError("no room")

    with pytest.raises(InputError, match="cannot load the model: MemoryError: no room"):
        run_plan(plan, tmp_path / "run", pool=RayPool(no_memory))


def test_a_worker_that_dies_while_it_loads_is_replaced_twice_and_then_said_to_die(plan, tmp_path):
    def dies():
        with (tmp_path / "starts").open("a") as file:
            file.write(".")
        os._exit(1)

    with pytest.raises(InputError, match="died 3 times while it loaded the model"):
        run_plan(plan, tmp_path / "run", pool=RayPool(dies))

    assert (tmp_path / "starts").read_text() == "..."


def test_workers_that_ask_for_more_gpus_than_there_are_do_not_wait_for_them(plan, tmp_path):
    with pytest.raises(InputError, match=r"2 workers with 64 GPUs each need 128, and there are \d+ here"):
        run_plan(plan, tmp_path / "run", pool=RayPool(StubWorker, workers=2, gpus_per_worker=64))


@pytest.mark.parametrize(("workers", "gpus"), [(0, 0.0), (1, -1.0), (1, 1.5)])
def test_a_pool_that_cannot_be_is_refused(workers, gpus):
    with pytest.raises(InputError, match="choose"):
        RayPool(StubWorker, workers=workers, gpus_per_worker=gpus)


def test_without_ray_the_line_to_install_it_is_told(plan, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(MissingExtra, match=r'pip install "alignvid\[ray\]"'):
        run_plan(plan, tmp_path / "run", pool=RayPool(StubWorker))
