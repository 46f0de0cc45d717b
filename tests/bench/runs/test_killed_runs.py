"""`kill -9` of the command line itself on the real miniature; test_running has stubs, and a job that is fatal."""

import itertools
import random

import pytest

from alignvid.bench.runs.plan import make_plan
from alignvid.bench.runs.spec import BenchSpec
from bench_stub import computed, contents, write_data
from killed_runs import MOMENTS, Typed, kill_a_worker, kill_driver, undisturbed

LINE = "--model miniature --data omitshapes --limit 4 --variants baseline,alignvid --seed 0 --steps 2"
VARIANTS = 2


def kill_often(folder, kills, line=LINE, samples=4, kill=kill_driver, lost_per_kill=1, in_new_python=True):
    """Kill the line at random moments in as many runs as that takes, and resume each until it ends like a calm one."""
    jobs = VARIANTS * samples

    def typed(name):
        return Typed(folder / name, tuple(line.split()), jobs, in_new_python)

    calm, pace = undisturbed(typed("calm"))
    rng, moments, done = random.Random(0), itertools.cycle(MOMENTS), 0
    for number in range(3 * kills):  # a run that ended leaves nothing to kill, nor does one whose workers are to come
        run, killed = typed(f"run-{number}"), 0
        while done + killed < kills and run.kill(next(moments), rng, pace, kill):
            killed += 1
        run.finish()
        assert contents(run.folder) == calm
        assert len(computed(run.log)) <= jobs + lost_per_kill * killed
        done += killed
        if done == kills:
            return
    raise AssertionError(f"{done} kills of {kills}")


@pytest.mark.slow
def test_a_run_on_the_miniature_that_is_killed_at_its_start_in_a_job_and_while_writing_ends_as_if_undisturbed(tmp_path):
    data = write_data(tmp_path / "data", 2)
    make_plan(BenchSpec(data=str(data), variants=("alignvid",)))  # what it imports, the killed runs need not
    kill_often(tmp_path, 3, f"--data {data} --steps 2", samples=2, in_new_python=False)


@pytest.mark.slow
def test_two_shards_at_the_same_time_make_what_one_process_makes(tmp_path):
    data = write_data(tmp_path / "data", 3)
    line = ("--data", str(data), "--steps", "2")
    calm, _ = undisturbed(Typed(tmp_path / "calm", line, VARIANTS * 3, in_new_python=False))

    shards = [Typed(tmp_path / "run", (*line, "--shard", f"{n}/2"), VARIANTS * 3, in_new_python=False) for n in (0, 1)]
    processes = [shard.start() for shard in shards]
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0]
    assert contents(tmp_path / "run") == calm
    assert len(computed(shards[0].log)) == VARIANTS * 3


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
    kill_often(tmp_path, 6, f"{LINE} --ray local --workers 2", kill=kill, lost_per_kill=lost_per_kill)
