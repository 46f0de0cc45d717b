"""How a run's files come to lie there: whole or not at all, in an order that survives a crash, on the disk."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from alignvid.bench.records import append_rows
from alignvid.bench.run_folder import ANSWERS_FILE, RUN_FILE, SAMPLES_FILE, VIDEOS, RunFolder
from alignvid.errors import AlignvidError
from alignvid.files import sha256_of_bytes
from judged_folders import answer_of, info_of, metric_of, right, sample_of, write_run

SAMPLES = [sample_of(0)]


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run", SAMPLES)


@pytest.fixture
def events(monkeypatch):
    """What is flushed to the disk, and what gets its final name, in order."""
    found: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.replace

    def noted_fsync(descriptor):
        target = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        found.append(("flush", Path(os.readlink(f"/proc/self/fd/{target}")).name))
        fsync(descriptor)

    def noted_rename(source, target):
        found.append(("name", Path(target).name))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_rename)
    return found


def write_plan(path: Path) -> RunFolder:
    path.mkdir()
    folder = RunFolder(path)
    folder.write_plan(info_of(["baseline"], [0], 1), SAMPLES)
    return folder


def test_the_run_file_gets_its_name_after_the_samples(tmp_path, events):
    write_plan(tmp_path / "run")
    assert [name for kind, name in events if kind == "name"] == [SAMPLES_FILE, RUN_FILE]


def test_a_plan_that_is_cut_between_its_files_is_no_run(tmp_path, monkeypatch):
    rename = os.replace

    def stop_at_run_file(source, target):
        if Path(target).name == RUN_FILE:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "replace", stop_at_run_file)
    with pytest.raises(KeyboardInterrupt):
        write_plan(tmp_path / "run")
    assert not RunFolder(tmp_path / "run").exists()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [SAMPLES_FILE]


def test_a_video_gets_its_name_before_its_record(folder, events):
    record = replace(folder.videos()[0], job="new", file="videos/new.mp4")
    folder.write_video(record, b"video")
    assert [name for kind, name in events if kind == "name"] == ["new.mp4", "new.json"]


def test_every_file_is_flushed_before_it_gets_its_name_and_the_folder_after(folder, events):
    folder.write_video(replace(folder.videos()[0], job="new", file="videos/new.mp4"), b"video")
    names = [index for index, (kind, _) in enumerate(events) if kind == "name"]
    flushed = {name for kind, name in events[: names[0]] if kind == "flush"}
    assert any("new.mp4" in name for name in flushed)
    assert any("new.json" in name for name in flushed)
    assert ("flush", VIDEOS) in events[names[-1] :]


def test_rows_are_flushed_when_they_are_appended(folder, events):
    append_rows(folder.path / ANSWERS_FILE, folder.answers()[:1])
    assert ("flush", ANSWERS_FILE) in events


def test_who_reads_a_file_that_is_replaced_reads_the_old_one_to_its_end(folder):
    """A reader has the file open: a write in place would change it under its hands."""
    path = folder.path / "scores.json"
    folder.write(path.name, b"old" * 1000)
    with path.open("rb", buffering=0) as reader:
        folder.write(path.name, b"new" * 1000)
        assert reader.read() == b"old" * 1000
    assert path.read_bytes() == b"new" * 1000


def test_a_record_that_is_replaced_is_another_file(folder):
    record = folder.videos()[0]
    path = folder.path / VIDEOS / f"{record.job}.json"
    with path.open("rb", buffering=0) as reader:
        folder.write_video(replace(record, seconds=9.0), None)
        assert b"9.0" not in reader.read()
    assert folder.videos()[0].seconds == 9.0


NAN = float("nan")


def test_a_number_that_is_none_gets_into_no_row(folder):
    video = folder.videos()[0]
    rows = [answer_of(video, SAMPLES[0].questions[0], right(SAMPLES[0].questions[0]), seconds=NAN)]
    for row in [*rows, metric_of(video, "flicker", NAN)]:
        with pytest.raises((ValueError, AlignvidError)):
            append_rows(folder.path / "rows.jsonl", [row])
    assert b"NaN" not in b"".join(path.read_bytes() for path in folder.path.glob("*.jsonl"))


def test_a_number_that_is_none_gets_into_no_record_and_no_plan(folder):
    record = folder.videos()[0]
    with pytest.raises((ValueError, AlignvidError)):
        folder.write_video(replace(record, seconds=NAN), None)
    with pytest.raises((ValueError, AlignvidError)):
        folder.write_plan(replace(folder.info(), settings={"guidance": NAN}), SAMPLES)
    assert folder.videos()[0] == record
    assert folder.info().settings["guidance"] == 1.0


def test_a_job_is_whole_while_its_video_is_that_of_its_record(folder):
    record = folder.videos()[0]
    record = replace(record, sha256=sha256_of_bytes(b"video"), file=f"{VIDEOS}/{record.job}.mp4")
    folder.write_video(record, b"video")
    assert folder.is_whole(record)
    assert not folder.is_whole(replace(record, status="failed"))
    assert not folder.is_whole(replace(record, file=None))
    (folder.path / record.file).write_bytes(b"another")
    assert not folder.is_whole(record)
    (folder.path / record.file).unlink()
    assert not folder.is_whole(record)


def test_a_reference_image_is_written_once_and_anew_if_it_is_another(folder):
    folder.write_image("images/new/a.png", b"one")
    path = folder.path / "images/new/a.png"
    written = path.stat()
    folder.write_image("images/new/a.png", b"one")
    assert (path.read_bytes(), path.stat().st_ino) == (b"one", written.st_ino)
    folder.write_image("images/new/a.png", b"another")
    assert path.read_bytes() == b"another"
