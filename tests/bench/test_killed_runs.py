"""`kill -9` of the command line itself on the real miniature; test_running has stubs, and a job that is fatal."""

import itertools
import random

import pytest

from alignvid.bench.plan import make_plan
from alignvid.bench.spec import BenchSpec
from bench_stub import computed, contents
from killed_runs import MOMENTS, Typed, kill_a_worker, kill_driver, undisturbed

LINE = "--model miniature --data omitshapes --limit 4 --variants baseline,alignvid --seeds 0 --steps 2"
JOBS = 4 * 2
TWO_WORKERS = ("--ray", "local", "--workers", "2")


def kill_often(folder, kills, *options, kill=kill_driver, moments=MOMENTS, lost_per_kill=1, in_new_python=True):
    """Kill the line at random moments in as many runs as that takes, and resume each until it ends like a calm one."""
    line = (*LINE.split(), *options)
    calm, pace = undisturbed(Typed(folder / "calm", line, JOBS, in_new_python))
    rng, moment, done = random.Random(0), itertools.cycle(moments), 0
    while done < kills:
        run, killed = Typed(folder / f"after-{done}", line, JOBS, in_new_python), 0
        while done + killed < kills and run.kill(next(moment), rng, pace, kill):
            killed += 1
        run.finish()
        assert contents(run.folder) == calm
        assert len(computed(run.log)) <= JOBS + lost_per_kill * killed
        done += killed


def test_a_run_on_the_miniature_that_is_killed_at_its_start_in_a_job_and_while_writing_ends_as_if_undisturbed(tmp_path):
    make_plan(BenchSpec(data="omitshapes", variants=("alignvid",)))  # what it imports, the killed runs need not
    kill_often(tmp_path, 3, in_new_python=False)


@pytest.mark.slow  # each of the forty starts imports everything anew
@pytest.mark.timeout(1800)
def test_thirty_kills_of_the_command_line_cost_a_job_each_and_nothing_else(tmp_path):
    kill_often(tmp_path, 30)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kill", "lost_per_kill"), [(kill_driver, 2), (kill_a_worker, 1)], ids=["the driver", "a worker"]
)
def test_kills_of_two_workers_on_ray_cost_a_job_each_and_nothing_else(tmp_path, kill, lost_per_kill):
    pytest.importorskip("ray")
    kill_often(tmp_path, 6, *TWO_WORKERS, kill=kill, lost_per_kill=lost_per_kill)
