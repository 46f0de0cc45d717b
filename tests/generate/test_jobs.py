import json
import os
import re
import shutil
import unicodedata

import pytest

from alignvid.errors import InputError, UnknownPreset
from alignvid.generate import jobs as jobs_file
from alignvid.generate import read_jobs, run_jobs
from alignvid.report.page import PAGE_FILE


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
        ("[1]", "line 2 is a list of 1; it must be an object with the fields id, prompt"),
        ({"id": "b"}, "line 2 lacks the field 'prompt'; its fields are id, prompt"),
        ({"prompt": "the cat"}, "line 2 lacks the field 'id'"),
        (job("b", gama=1), "line 2 has no field 'gama'; its fields are id, prompt"),
        (job("b", prompt=3), "line 2: the field 'prompt' is 3; it must be text"),
        (job("b", seed=True), "line 2: the field 'seed' is True; it must be a whole number"),
        (job("b", prompt=" "), "line 2: The prompt is empty"),
        (job("../b"), "line 2: the field 'id' is '../b'; it names a folder"),
        (job(".."), "the field 'id'"),
        (job("a/b"), "the field 'id'"),
        (job(""), "the field 'id'"),
        (job("A"), "the id 'A' is there twice"),
        (job("Index.html"), "line 2: the field 'id' is 'Index.html', which is the name of the page; choose another"),
        ('{"id": "b", "id": "c", "prompt": "a cat"}', "line 2: not JSON .the key 'id' is there twice"),
        ('{"id": "b", "prompt": "half \\ud83d"}', "line 2: not JSON .*holds half a character"),
    ],
    ids=str,
)
def test_a_bad_line_is_named_with_its_field(write, fields, line, message):
    with pytest.raises(InputError, match=message):
        read_jobs(write(job("a"), line), fields)


def test_a_bad_line_costs_that_line_alone_where_the_caller_takes_it(write, fields):
    dropped = []
    lines = [job("a"), "{", {"id": "b"}, {}, job("A"), job("c")]
    read = read_jobs(write(*lines), fields, on_dropped=dropped.append)
    assert [item.id for item in read] == ["a", "c"]
    assert [re.search("line ([0-9])", sentence)[1] for sentence in dropped] == ["2", "3", "4", "5"]
    assert "lacks the field 'id', 'prompt'" in dropped[2]
    with pytest.raises(InputError, match="line 1: not JSON"):
        read_jobs(write("{", "}"), fields, on_dropped=dropped.append)
    assert len(dropped) == 4


def test_a_list_in_place_of_lines_is_refused_whole(write, fields):
    for text in (
        json.dumps([job("a")]),
        json.dumps([job("a"), job("b")], indent=2),
        "\ufeff [",
        "[\n" + json.dumps(job("a")) + "\n]",
    ):
        with pytest.raises(InputError, match="holds a list; write one object on each line, without brackets"):
            read_jobs(write(text), fields, on_dropped=[].append)


def test_a_file_that_is_not_utf8_is_named_with_its_line(tmp_path, fields):
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b'{"id": "a", "prompt": "x"}\n{"id": "b", "prompt": "\xff"}\n')
    with pytest.raises(InputError, match=r"line 2: not JSON \(not UTF-8: byte 23 is 0xff\)"):
        read_jobs(path, fields)


def test_a_missing_or_empty_file_is_refused(tmp_path, fields):
    with pytest.raises(InputError, match="cannot be read"):
        read_jobs(tmp_path / "jobs.jsonl", fields)
    (tmp_path / "jobs.jsonl").write_text("\n\n")
    with pytest.raises(InputError, match="holds no job"):
        read_jobs(tmp_path / "jobs.jsonl", fields)


def test_a_file_of_another_system_is_read(tmp_path, fields, picture):
    lines = [json.dumps({"id": name, "prompt": "the cat sits"}) for name in "ab"]
    (tmp_path / "jobs.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode())
    assert [job.id for job in read_jobs(tmp_path / "jobs.jsonl", fields)] == ["a", "b"]


def test_an_image_is_found_however_another_system_wrote_its_name(tmp_path, fields, picture, monkeypatch):
    folder = tmp_path / "data" / "fotos"
    folder.mkdir(parents=True)
    file = folder / unicodedata.normalize("NFD", "café.png")
    shutil.copy(picture, file)
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ["fotos\\" + unicodedata.normalize("NFC", "café.png"), f"~/data/fotos/{file.name}", str(file)]
    lines = [json.dumps({"id": f"job-{index}", "prompt": "a cat", "image": name}) for index, name in enumerate(names)]
    (tmp_path / "data" / "jobs.jsonl").write_text("\n".join(lines))
    for job in read_jobs(tmp_path / "data" / "jobs.jsonl", fields):
        assert file.samefile(job.spec.image)


@pytest.mark.timeout(120)
def test_an_image_that_is_no_file_costs_its_own_job_alone(tmp_path, fields, picture):
    os.mkfifo(tmp_path / "pipe.png")
    odd = ["x\0y.png", "pipe.png", "", "~nobody-here/x.png", "/dev/zero", "x" * 300, "missing.png"]
    lines = [json.dumps({"id": f"odd-{index}", "prompt": "a cat", "image": name}) for index, name in enumerate(odd)]
    lines.append(json.dumps({"id": "good", "prompt": "a cat", "image": str(picture)}))
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    results = run_jobs(read_jobs(tmp_path / "jobs.jsonl", fields), tmp_path / "out")
    assert [result.error is None for result in results] == [False] * len(odd) + [True]
    assert all(name.startswith(("odd", "good")) for name in os.listdir(tmp_path / "out"))


def test_a_job_with_a_damaged_record_is_made_anew(write, fields, tmp_path):
    jobs = read_jobs(write(job("a")), fields)
    run_jobs(jobs, tmp_path / "out")
    (tmp_path / "out" / "a" / "record.json").write_text('{"schema_version": 1, "spec": {}}')
    (result,) = run_jobs(jobs, tmp_path / "out")
    assert result.error is None and not result.was_finished


def test_the_page_s_name_is_the_one_that_no_job_may_have():
    assert jobs_file.PAGE_FILE == PAGE_FILE
