import json
import os

import pytest

from alignvid import presets
from alignvid.models import families

if os.name == "posix":
    from terminals import on_terminal

terminal = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")


def pipelines():
    return {pipeline for family in families().values() for pipeline in family.pipelines}


@terminal
def test_presets_fit_a_terminal_of_80_columns_and_names_stay_whole():
    code, text = on_terminal("presets")
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    assert {line.split()[0] for line in text.splitlines() if ":" in line.split(" ")[0]} == set(presets.names())


@terminal
def test_models_fit_a_terminal_of_80_columns_and_names_stay_whole():
    code, text = on_terminal("models")
    assert code == 0
    assert max(map(len, text.splitlines())) <= 80
    rows = [line.split() for line in text.splitlines()]
    assert pipelines() <= {row[0] for row in rows if row}
    assert ["WanImageToVideoPipeline", "wan", "end", "to", "end"] in rows
    assert "tested end to end on a tiny one, not on released weights" in text


@terminal
@pytest.mark.parametrize(
    "arguments",
    [
        ("presets", "framepack"),
        ("--help",),
        *(pytest.param(command, marks=pytest.mark.slow) for command in (("models", "wan"), ("doctor",))),
    ],
    ids=str,
)
def test_other_lists_fit_a_terminal_of_80_columns(arguments):
    code, text = on_terminal(*arguments)
    assert code == 0
    before_examples = text.split("Examples:")[0]  # these are to be pasted, and are not broken
    assert max(map(len, before_examples.splitlines())) <= 80


def test_presets_of_a_word_say_where_they_come_from(alignvid):
    code, out, _ = alignvid("presets", "WAN2.1")
    assert code == 0
    names = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert names == ["wan2.1-i2v-14b:released", "wan2.1-i2v-14b:paper"]
    assert "Authors' released code, as behaviour" in " ".join(out.split())
    assert "blocks 0,2-7,10-20,25-32,37-38" in out and "gamma 1.35, to the power: cross.image 1, cross.text 2" in out


def test_presets_as_json_are_whole(alignvid):
    rows = {row["name"]: row for row in json.loads(alignvid("presets", "--json")[1])}
    assert set(rows) == set(presets.names())
    assert rows["wan2.1-i2v-14b:released"]["recipe"]["modulation"]["powers"]["cross.text"] == 2.0
    assert len(json.loads(alignvid("presets", "framepack", "--json")[1])) == 4


def test_models_of_a_word_say_what_was_tested_in_plain_words(alignvid):
    code, out, _ = alignvid("models", "kontext")
    assert code == 0
    names = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert names and all("Kontext" in name for name in names)
    text = " ".join(out.split())
    assert "tested end to end: gamma 1 gives the same bits; a gain acts" in text
    assert "streams double.image" in text


def test_models_as_json_are_filtered_too(alignvid):
    rows = json.loads(alignvid("models", "framepack", "--json")[1])
    assert {row["family"] for row in rows} == {"framepack", "framepack-native"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("models", "wam"), "No pipeline or family has 'wam' in its name; the nearest are wan."),
        (("models", "zzzzzz"), "has 'zzzzzz' in its name; leave the word out to see all."),
        (("presets", "framepak"), "No preset has 'framepak' in its name; the nearest are framepack"),
        (("presets", ""), "'[WORD]': it is empty"),
    ],
    ids=str,
)
def test_a_word_that_nothing_has_is_refused_with_the_nearest(alignvid, arguments, sentence):
    code, out, err = alignvid(*arguments)
    assert (code, out) == (2, "")
    assert sentence in err and err.count("\n") == 1
