import pytest

from alignvid.bench.records import AnswerRecord, append_rows, read_rows
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
