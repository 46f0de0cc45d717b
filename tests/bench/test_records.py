import json
from dataclasses import replace

import pytest

from alignvid.bench.records import AnswerRecord, append_rows, read_rows, to_row
from alignvid.bench.verdicts import Verdict
from alignvid.errors import InputError, OutputError
from full_disk import file_size_limit


def answer(question: str) -> AnswerRecord:
    return AnswerRecord(
        judge="rule",
        protocol="rule",
        settings="0",
        job="job",
        sample="sample",
        question=question,
        video_sha256="0",
        verdict=Verdict.YES,
    )


def test_rows_come_back_as_they_were_appended(tmp_path):
    rows = [answer("a"), answer("é")]

    append_rows(tmp_path / "rows.jsonl", rows)

    assert list(read_rows(tmp_path / "rows.jsonl", AnswerRecord)) == rows


def test_a_torn_last_line_is_passed_over_and_then_removed(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [answer("a"), answer("b")])
    path.write_bytes(path.read_bytes()[:-10])

    assert list(read_rows(path, AnswerRecord)) == [answer("a")]

    append_rows(path, [answer("c")])
    assert list(read_rows(path, AnswerRecord)) == [answer("a"), answer("c")]


def test_a_damaged_line_within_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [answer("a")])
    path.write_bytes(b"{half\n" + path.read_bytes())

    with pytest.raises(InputError, match="line 1 is no JSON"):
        list(read_rows(path, AnswerRecord))


def test_a_row_of_another_schema_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"schema_version": 99}\n')

    with pytest.raises(InputError, match="schema version 99"):
        list(read_rows(path, AnswerRecord))


def test_a_full_disk_keeps_the_rows_before_it_and_the_same_line_again_goes_on(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [answer("a")])

    with (
        file_size_limit(path.stat().st_size + 10),
        pytest.raises(OutputError, match=r"Cannot append .*free"),
    ):
        append_rows(path, [answer("b")])

    assert list(read_rows(path, AnswerRecord)) == [answer("a")]
    append_rows(path, [answer("b")])
    assert list(read_rows(path, AnswerRecord)) == [answer("a"), answer("b")]


def test_a_whole_last_line_without_its_line_break_is_a_row_before_and_after_the_next(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [answer("a"), answer("b")])
    path.write_bytes(path.read_bytes()[:-1])

    assert list(read_rows(path, AnswerRecord)) == [answer("a"), answer("b")]

    append_rows(path, [answer("c")])
    assert list(read_rows(path, AnswerRecord)) == [answer("a"), answer("b"), answer("c")]


def test_a_file_that_went_through_another_system_is_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [answer("a"), answer("b")])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")

    assert list(read_rows(path, AnswerRecord)) == [answer("a"), answer("b")]


def test_a_reply_with_half_a_character_is_kept_and_read_back(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [replace(answer("a"), reply="Yes \ud83d"), answer("b")])

    assert [row.reply for row in read_rows(path, AnswerRecord)] == ["Yes \ufffd", None]

    path.write_bytes(path.read_bytes().replace("\ufffd".encode(), b"\\ud83d"))  # as json.dumps writes it
    assert [row.reply for row in read_rows(path, AnswerRecord)] == ["Yes \ufffd", None]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("p_yes", 1.5, "the field 'p_yes' is 1.5; it must be a number from 0 to 1 or null; mend or remove it"),
        ("p_yes", "0.5", "the field 'p_yes' is '0.5'"),
        ("verdict", True, "the field 'verdict' is True; it must be 'yes', 'no'"),
        ("question", None, "the field 'question' is None; it must be text"),
        ("attempts", -1, "the field 'attempts' is -1; it must be a whole number of 0 or more"),
        ("score", 1, "AnswerRecord has no field 'score'; its fields are judge, protocol"),
    ],
)
def test_a_wrong_field_is_named_with_file_and_line(tmp_path, field, value, message):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [answer("a")])
    path.write_text(path.read_text() + json.dumps({**to_row(answer("b")), field: value}) + "\n")

    with pytest.raises(InputError, match=rf"rows.jsonl', line 2 is no row: .*{message}"):
        list(read_rows(path, AnswerRecord))
