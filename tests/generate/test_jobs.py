import json

import pytest

from alignvid.errors import InputError, UnknownPreset
from alignvid.generate import read_jobs, run_jobs


@pytest.fixture
def fields(i2v_spec):
    """What the jobs share."""
    return {name: value for name, value in i2v_spec.to_dict().items() if name not in ("prompt", "image")}


@pytest.fixture
def write(tmp_path, picture):
    (tmp_path / "cat.png").write_bytes(picture.read_bytes())

    def write(*lines):
        path = tmp_path / "jobs.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        return path

    return write


def job(name, **more):
    return {"id": name, "image": "cat.png", "prompt": "the cat", **more}


def test_every_job_gets_a_folder_of_its_own(write, fields, tmp_path):
    results = run_jobs(read_jobs(write(job("a"), "", job("b", seed=4)), fields), tmp_path / "out")
    assert [(result.id, result.error) for result in results] == [("a", None), ("b", None)]
    assert (tmp_path / "out" / "a" / "alignvid.mp4").exists()
    assert results[1].record.spec["seed"] == 4


def test_a_job_that_fails_does_not_lose_the_others(write, fields, tmp_path):
    results = run_jobs(read_jobs(write(job("a", image="no.png"), job("b")), fields), tmp_path / "out")
    assert "does not exist" in results[0].error
    assert results[1].error is None
    assert not (tmp_path / "out" / "a").exists()


def test_a_recipe_that_fits_no_job_is_refused_at_once(write, fields, tmp_path):
    with pytest.raises(UnknownPreset):
        run_jobs(read_jobs(write(job("a")), {**fields, "preset": "nothing"}), tmp_path / "out")


def test_finished_jobs_are_not_run_again(write, fields, tmp_path):
    jobs = read_jobs(write(job("a"), job("b")), fields)
    run_jobs(jobs[:1], tmp_path / "out")
    assert [result.was_finished for result in run_jobs(jobs, tmp_path / "out")] == [True, False]
    assert [result.was_finished for result in run_jobs(jobs, tmp_path / "out")] == [True, True]


def test_a_job_that_was_changed_is_run_again(write, fields, tmp_path):
    run_jobs(read_jobs(write(job("a")), fields), tmp_path / "out")
    changed = read_jobs(write(job("a", prompt="a dog")), fields)
    assert not run_jobs(changed, tmp_path / "out")[0].was_finished
    assert not run_jobs(changed, tmp_path / "out", compare=True)[0].was_finished


def test_results_are_told_one_by_one(write, fields, tmp_path):
    told = []
    run_jobs(read_jobs(write(job("a"), job("b")), fields), tmp_path / "out", on_result=told.append)
    assert [result.id for result in told] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: list instead of an object"),
        ({"id": "b"}, "line 2: the field 'prompt' is missing"),
        ({"prompt": "the cat"}, "line 2: the field 'id' is missing"),
        (job("b", gama=1), "line 2: the field 'gama' is unknown; the fields are id, prompt"),
        (job("b", prompt=3), "line 2: the field 'prompt' is 3; it must be a str"),
        (job("b", seed=True), "line 2: the field 'seed' is True; it must be a int"),
        (job("b", prompt=" "), "line 2: The prompt is empty"),
        (job("../b"), "line 2: the field 'id' is '../b'; it names a folder"),
        (job(".."), "the field 'id'"),
        (job("a/b"), "the field 'id'"),
        (job(""), "the field 'id'"),
        (job("A"), "the id 'A' is there twice"),
    ],
    ids=str,
)
def test_a_bad_line_is_named_with_its_field(write, fields, line, message):
    with pytest.raises(InputError, match=message):
        read_jobs(write(job("a"), line), fields)


def test_a_file_that_is_not_utf8_is_named_with_its_line(tmp_path, fields):
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b'{"id": "a", "prompt": "x"}\n{"id": "b", "prompt": "\xff"}\n')
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        read_jobs(path, fields)


def test_a_missing_or_empty_file_is_refused(tmp_path, fields):
    with pytest.raises(InputError, match="cannot be read"):
        read_jobs(tmp_path / "jobs.jsonl", fields)
    (tmp_path / "jobs.jsonl").write_text("\n\n")
    with pytest.raises(InputError, match="holds no job"):
        read_jobs(tmp_path / "jobs.jsonl", fields)
