import os
import random
import signal
import sys
from functools import partial

import pytest

import bench_stub
from alignvid.bench.plan import make_plan
from alignvid.bench.ray_pool import RayPool
from alignvid.bench.running import run_plan
from alignvid.bench.spec import BenchSpec
from alignvid.errors import InputError, MissingExtra
from bench_stub import StubWorker, computed, contents, write_data

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    data = write_data(tmp_path_factory.mktemp("data") / "set", 6)
    return make_plan(BenchSpec(data=str(data), variants=("baseline,strong: gamma=2",), seeds=(0, 1)))


@pytest.fixture(scope="module", autouse=True)
def stub_travels():
    """Workers cannot import the tests."""
    ray.cloudpickle.register_pickle_by_value(bench_stub)


def test_two_workers_survive_kills_and_end_as_one_undisturbed(plan, tmp_path):
    run_plan(plan, tmp_path / "calm", pool=RayPool(partial(StubWorker, tmp_path / "calm-log"), workers=2))
    log, kills = tmp_path / "log", []
    random.seed(1)

    def kill_somebody(record):
        if len(kills) < 3 and random.random() < 0.4:
            kills.append(log.read_text().split()[-1])  # the worker that has begun last
            os.kill(int(kills[-1]), signal.SIGKILL)

    pool = RayPool(partial(StubWorker, log, pause_s=0.1, dies=frozenset({"sample_5"})), workers=2)
    result = run_plan(plan, tmp_path / "run", pool=pool, on_record=kill_somebody)

    assert {row.sample for row in result.failed} == {"sample_5"}
    assert all("died 3 times" in row.error for row in result.failed)
    assert len(kills) == 3
    healthy = {job.id for job in plan.jobs if job.sample.id != "sample_5"}
    runs = [job for job in computed(log) if job in healthy]
    assert len(runs) <= len(healthy) + len(kills)

    run_plan(plan, tmp_path / "run", pool=RayPool(partial(StubWorker, log), workers=2))
    assert contents(tmp_path / "run") == contents(tmp_path / "calm")
    assert len({line.split()[1] for line in (tmp_path / "calm-log").read_text().splitlines()}) == 2


def test_a_worker_that_cannot_load_its_model_says_so_once(plan, tmp_path):
    def no_model():
        raise InputError("Model 'x' is not there.")

    with pytest.raises(InputError, match="Model 'x' is not there"):
        run_plan(plan, tmp_path / "run", pool=RayPool(no_model))


@pytest.mark.parametrize(("workers", "gpus"), [(0, 0.0), (1, -1.0), (1, 1.5)])
def test_a_pool_that_cannot_be_is_refused(workers, gpus):
    with pytest.raises(InputError, match="choose"):
        RayPool(StubWorker, workers=workers, gpus_per_worker=gpus)


def test_without_ray_the_line_to_install_it_is_told(plan, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(MissingExtra, match=r'pip install "alignvid\[ray\]"'):
        run_plan(plan, tmp_path / "run", pool=RayPool(StubWorker))
