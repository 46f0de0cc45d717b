"""Lists of jobs on a pool leave the folders that one process leaves."""

import json
import os
from pathlib import Path

import pytest

from alignvid.bench.runs.attempts import MAX_CRASHES
from alignvid.bench.runs.job_list import GenerationWorker, JobWork, MadeJob, run_jobs_on, run_jobs_on_ray
from alignvid.bench.runs.pools import LocalPool
from alignvid.generate import GenerationSpec, Job, run_jobs

PICTURE = str(Path(__file__).parents[3] / "examples" / "scene-1.png")
TIMES = ("timings", "created")


def jobs_of(*names, **changes):
    spec = {"prompt": "add a green circle", "image": PICTURE, "steps": 1, "frames": 5, **changes}
    return [Job(name, GenerationSpec(**spec, seed=seed)) for seed, name in enumerate(names)]


def contents(folder):
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*") if path.is_file()}
    for name in [name for name in files if name.endswith("record.json")]:
        files[name] = {key: value for key, value in json.loads(files[name]).items() if key not in TIMES}
    return files


def test_a_list_on_a_pool_leaves_the_same_folders_as_in_one_process_and_skips_what_is_there(tmp_path):
    jobs = jobs_of("a", "b")
    jobs.append(Job("lost", GenerationSpec(prompt="a cat", image="gone.png", steps=1)))
    pool = LocalPool(lambda: GenerationWorker(jobs[0].spec, True, False))
    said = []
    results = run_jobs_on(pool, jobs, tmp_path / "pool", compare=True, on_choice=said.append)
    alone = run_jobs(jobs, tmp_path / "alone", compare=True)

    assert [one.id for one in results] == ["a", "b", "lost"] and "gone.png" in (results[2].error or "")
    assert [one.error is None for one in alone] == [one.error is None for one in results] == [True, True, False]
    assert contents(tmp_path / "pool") == contents(tmp_path / "alone") and said[0]["model"].startswith("miniature")
    again = run_jobs_on(LocalPool(lambda: pytest.fail("loaded")), jobs, tmp_path / "pool", compare=True)
    assert [one.was_finished for one in again] == [True, True, False]


class Dies:
    """A worker whose process ends at one job."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, task: JobWork, images):
        with (self.folder / task.job.id).open("a") as file:
            file.write(".")
        if task.job.id == "fatal":
            os._exit(1)
        return [MadeJob(task.job.id, None, f"{len(images)} image")]


@pytest.mark.slow  # a worker imports torch anew after every death
@pytest.mark.timeout(1800)
def test_on_ray_a_job_of_which_its_worker_dies_is_set_aside_and_the_others_end(tmp_path):
    ray = pytest.importorskip("ray")
    import sys

    from alignvid.bench.runs.ray_pool import RayPool

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    jobs = jobs_of("a", "fatal", "b")
    pool = RayPool(lambda: Dies(tmp_path), workers=2)
    results = {one.id: one.error for one in run_jobs_on(pool, jobs, tmp_path / "out", compare=False)}
    assert results["a"] == results["b"] == "1 image"
    assert f"The process died {MAX_CRASHES} times in this job" in results["fatal"]
    assert (tmp_path / "fatal").read_text() == "." * MAX_CRASHES


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_real_jobs_on_ray_give_the_videos_of_one_process(tmp_path):
    pytest.importorskip("ray")
    jobs = jobs_of("a", "b", "c")
    results = run_jobs_on_ray(jobs, tmp_path / "ray", ray="local", workers=2)
    alone = run_jobs(jobs, tmp_path / "alone")
    for one, other in zip(results, alone, strict=True):
        assert one.record.outputs == other.record.outputs and one.record.spec == other.record.spec
