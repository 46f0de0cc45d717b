import json

import pytest

from alignvid.errors import InputError
from alignvid.generate import generate
from alignvid.generate.record import is_finished, read_record

ROLES = {"alignvid"}


@pytest.fixture
def finished(i2v_spec, tmp_path):
    made = generate(i2v_spec, tmp_path / "out")
    return made.folder, made.record


def test_a_record_survives_its_file(finished):
    folder, record = finished
    assert read_record(folder) == read_record(folder / "record.json") == record


def test_a_missing_record_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read as a record"):
        read_record(tmp_path / "record.json")


def test_another_schema_version_is_refused(finished):
    folder, record = finished
    (folder / "record.json").write_text(json.dumps({**record.to_dict(), "schema_version": 99}))
    with pytest.raises(InputError, match="has schema version 99, this one reads 1"):
        read_record(folder)


def test_an_unknown_field_is_refused(finished):
    folder, record = finished
    (folder / "record.json").write_text(json.dumps({**record.to_dict(), "extra": 1}))
    with pytest.raises(InputError, match="The record has no field 'extra'; its fields are spec, settings"):
        read_record(folder)


def test_a_whole_result_is_finished(finished):
    folder, record = finished
    assert is_finished(folder, record.spec, record.image["sha256"], ROLES)


def test_another_spec_image_or_role_is_not_finished(finished):
    folder, record = finished
    assert not is_finished(folder, {**record.spec, "seed": 1}, record.image["sha256"], ROLES)
    assert not is_finished(folder, record.spec, "another picture", ROLES)
    assert not is_finished(folder, record.spec, record.image["sha256"], {"alignvid", "baseline"})


def test_a_video_that_was_changed_or_lost_is_not_finished(finished):
    folder, record = finished
    (folder / "alignvid.mp4").write_bytes(b"changed")
    assert not is_finished(folder, record.spec, record.image["sha256"], ROLES)
    (folder / "alignvid.mp4").unlink()
    assert not is_finished(folder, record.spec, record.image["sha256"], ROLES)
