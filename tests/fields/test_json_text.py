import json

import pytest

from alignvid.errors import InputError
from alignvid.fields import json_bytes, json_values

REFUSED = {
    '{"a": 1, "a": 2}': "the key 'a' is there twice",
    '{"a": {"b": 1, "b": 1}}': "the key 'b' is there twice",
    "NaN": "NaN is no finite number",
    "[-Infinity]": "Infinity is no finite number",
    "1e999": "1e999 is no finite number",
    "9" * 5000: "has 5000 digits; at most 300",
    "-" + "9" * 301: "has 302 digits",
    "[" * 65 + "]" * 65: "nested deeper than 64 levels",
    "[" * 100_000: "nested deeper than 64 levels",
    '{"a":' * 70 + "1" + "}" * 70: "nested deeper than 64 levels",
    '"half \\ud83d"': "holds half a character",
    '{"\\uDE00": 1}': "holds half a character",
    '"half \ud83d"': "holds half a character",
    "": "Expecting value",
    '{"a": 1} {"b": 2}': "Extra data",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:20].encode("ascii", "replace").decode())
def test_a_loophole_of_json_is_refused_with_its_reason(text):
    with pytest.raises(InputError, match=REFUSED[text]):
        json_values(text, error=InputError)


def test_bytes_that_are_no_utf8_are_refused_with_the_place():
    with pytest.raises(InputError, match="not UTF-8: byte 1 is 0xff"):
        json_values(b'"\xff"', error=InputError)


def test_64_levels_are_read():
    assert json_values("[" * 64 + "]" * 64, error=InputError) == json.loads("[" * 64 + "]" * 64)


def test_a_byte_order_mark_is_passed_over():
    assert json_values(b"\xef\xbb\xbf[1]", error=InputError) == [1]


def test_a_whole_emoji_is_read_and_half_of_one_is_replaced_where_that_was_asked_for():
    assert json_values('"\\ud83d\\ude00"', error=InputError) == "\N{GRINNING FACE}"
    text = '{"\\ud83d": ["\\ude00 yes"]}'
    assert json_values(text, error=InputError, mends_text=True) == {"\ufffd": ["\ufffd yes"]}


def test_what_is_written_can_be_read_even_with_half_a_character():
    assert json_values(json_bytes({"reply": "Yes \ud83d"}), error=InputError) == {"reply": "Yes \ufffd"}
    assert json_values(json_bytes("\ud83d" + "\ude00"), error=InputError) == "\N{GRINNING FACE}"


def test_no_file_gets_a_number_that_json_does_not_have():
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_bytes({"value": float("nan")})
