"""Pairs from jobs files, OmitI2V folders and scenes; what cannot be used is named by row and field."""

import json

import pytest

from alignvid.calibration.pairs import read_pairs
from alignvid.errors import InputError
from alignvid.miniature.scenes import CALIBRATION, evaluation_scenes


def read(data, tmp_path, count=None, **fields):
    return read_pairs(str(data), fields, count=count, pictures=tmp_path / "drawn")


def test_a_jobs_file_gives_its_pairs_in_order(data, tmp_path):
    pairs = read(data / "jobs.jsonl", tmp_path, seed=3)
    assert [pair.id for pair in pairs] == ["pair-0", "pair-1", "pair-2"]
    assert (pairs[0].size, pairs[0].spec.seed) == ((64, 32), 3)


def test_count_takes_the_first(data, tmp_path):
    assert [pair.id for pair in read(data / "jobs.jsonl", tmp_path, count=2)] == ["pair-0", "pair-1"]


def omit_folder(data, **changes):
    samples = [
        {"id": f"sample_{i}", "image-path": f"{i}.png", "prompt": "x", "main-category": "deletion"} for i in range(2)
    ]
    samples[1] |= changes
    (data / "meta.json").write_text(json.dumps(samples))
    return data


def test_an_omit_folder_gives_its_pairs(data, tmp_path):
    assert [pair.id for pair in read(omit_folder(data), tmp_path)] == ["sample_0", "sample_1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": None}, r"sample 2: the field 'prompt' is None; it must be text"),
        ({"image-path": 3}, r"sample 2: the field 'image-path' is 3"),
        ({"image-path": "../out.png"}, r"sample 2: .* leads out of the folder"),
        ({"image-path": "no.png"}, r"'sample_1', field 'image': Image .*no.png' does not exist"),
        ({"id": "sample_0"}, r"the id 'sample_0' is there twice"),
        ({"id": "a/b"}, r"sample 2: the field 'id' is 'a/b'"),
    ],
    ids=str,
)
def test_a_bad_sample_is_told_by_row_and_field(data, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read(omit_folder(data, **changes), tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"line 2: not JSON"),
        ('{"id": "b"}', r"line 2 lacks the field 'prompt'"),
        ('{"id": "b", "prompt": "x"}', r"pair 'b' lacks the field 'image'"),
        ('{"id": "b", "prompt": "x", "image": "bad.png"}', r"pair 'b', field 'image': .*bad.png' is not an image"),
    ],
    ids=str,
)
def test_a_bad_line_is_told_by_row_and_field(data, tmp_path, row, message):
    (data / "bad.png").write_bytes(b"no image")
    first = (data / "jobs.jsonl").read_text().splitlines()[0]
    (data / "bad.jsonl").write_text(f"{first}\n{row}\n")
    with pytest.raises(InputError, match=message):
        read(data / "bad.jsonl", tmp_path)


@pytest.mark.parametrize("content", ["{}", "[", '["a"]'], ids=["no list", "no JSON", "no objects"])
def test_a_damaged_meta_file_is_refused(tmp_path, content):
    (tmp_path / "meta.json").write_text(content)
    with pytest.raises(InputError, match=r"meta.json"):
        read(tmp_path, tmp_path)


def test_missing_data_names_what_can_be_given(tmp_path):
    with pytest.raises(InputError, match=r"give a JSON Lines file, a folder with a meta\.json, or 'scenes'"):
        read(tmp_path / "none", tmp_path)


def test_fewer_than_two_pairs_are_refused(data, tmp_path):
    with pytest.raises(InputError, match="gives 1 pairs; a calibration needs at least 2, 50 are recommended"):
        read(data / "jobs.jsonl", tmp_path, count=1)


def test_scenes_are_of_the_calibration_seeds_and_numbered(tmp_path):
    pairs = read("scenes:3-5", tmp_path)
    assert [pair.id for pair in pairs] == ["scene-3", "scene-4"]
    assert [pair.scene for pair in pairs] == evaluation_scenes(CALIBRATION[3:5], 2)
    assert (tmp_path / "drawn" / "scene-3.png").is_file()


def test_fifty_scenes_are_taken_unless_a_count_is_given(tmp_path):
    assert len(read("scenes", tmp_path)) == 50
    assert len(read("scenes", tmp_path, count=3)) == 3
