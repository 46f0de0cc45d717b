from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from alignvid.errors import InputError, RecipeError
from alignvid.fields import Count, InnerPath, Share, read, read_as


class Mood(StrEnum):
    GOOD = "good"
    BAD = "bad"


class Facts(TypedDict):
    name: str
    weight: NotRequired[float]


@dataclass(frozen=True)
class Inner:
    id: str
    answer: Literal["yes", "no"]


@dataclass(frozen=True, kw_only=True)
class Outer:
    count: Count
    p: Share | None = None
    size: tuple[int, int] = (1, 1)
    inner: tuple[Inner, ...] = ()
    facts: Facts | None = None
    mood: Mood = Mood.GOOD
    powers: Mapping[str, float] = field(default_factory=dict)
    file: InnerPath = "a/b.mp4"
    flag: bool = False
    anything: dict[str, Any] = field(default_factory=dict)


WHOLE = {
    "count": 3,
    "p": 1,
    "size": [32, 16],
    "inner": [{"id": "a", "answer": "yes"}],
    "facts": {"name": "x", "weight": 2},
    "mood": "bad",
    "powers": {"cross.text": 2},
    "file": "c.mp4",
    "flag": True,
    "anything": {"deep": [1, {}]},
}


def test_plain_data_becomes_what_the_annotations_say():
    assert read(Outer, WHOLE, what="It", error=InputError) == Outer(
        count=3,
        p=1.0,
        size=(32, 16),
        inner=(Inner("a", "yes"),),
        facts={"name": "x", "weight": 2.0},
        mood=Mood.BAD,
        powers={"cross.text": 2.0},
        file="c.mp4",
        flag=True,
        anything={"deep": [1, {}]},
    )


def test_what_has_a_default_may_be_left_out():
    assert read(Outer, {"count": 0}, what="It", error=InputError) == Outer(count=0)


WRONG = {
    "extra": (1, "It has no field 'extra'; its fields are count, p, size"),
    "count": (-1, "the field 'count' is -1; it must be a whole number of 0 or more"),
    "p": (1.5, "the field 'p' is 1.5; it must be a number from 0 to 1 or null"),
    "size": ([1], "the field 'size' is a list of 1; it must be a list of 2: a whole number, a whole number"),
    "inner": ([{"id": "a", "answer": "maybe"}], r"'inner\[0\].answer' is 'maybe'; it must be 'yes' or 'no'"),
    "facts": ({"weight": 1}, "the field 'facts' lacks the field 'name'; its fields are name, weight"),
    "mood": ("fine", "the field 'mood' is 'fine'; it must be 'good' or 'bad'"),
    "powers": ({"cross.text": "2"}, "the field 'powers.cross.text' is '2'; it must be a finite number"),
    "file": ("../secret", "'../secret'; it must be a path that stays inside the folder"),
    "flag": (1, "the field 'flag' is 1; it must be true or false"),
    "anything": ([], r"the field 'anything' is \[\]; it must be an object"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_field_is_named_with_its_value_and_what_is_allowed(name):
    value, message = WRONG[name]
    with pytest.raises(RecipeError, match=message):
        read(Outer, {**WHOLE, name: value}, what="It", error=RecipeError)


@pytest.mark.parametrize("value", [True, "3", 3.0, None, [], {}, float("nan"), 2**63], ids=repr)
def test_nothing_but_a_whole_number_is_a_whole_number(value):
    with pytest.raises(InputError, match="'count'"):
        read(Outer, {"count": value}, what="It", error=InputError)


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("inf")], ids=repr)
def test_nothing_but_a_finite_number_is_a_number(value):
    with pytest.raises(InputError, match="a finite number"):
        read_as(float, value, what="It", error=InputError)


@pytest.mark.parametrize("path", ["/etc/passwd", "a/../../b", "..", "", "C:\\x", "a\\..\\..\\b", "x\0y"], ids=repr)
def test_a_path_that_leaves_its_folder_is_refused(path):
    with pytest.raises(InputError, match="stays inside the folder"):
        read_as(InnerPath, path, what="It", error=InputError)


def test_all_missing_fields_are_named_at_once():
    with pytest.raises(InputError, match="It lacks the field 'id', 'answer'; its fields are id, answer"):
        read(Inner, {}, what="It", error=InputError)


@pytest.mark.parametrize("values", [None, [], "text", 3], ids=repr)
def test_what_is_no_object_is_no_record(values):
    with pytest.raises(InputError, match="it must be an object with the fields id, answer"):
        read(Inner, values, what="It", error=InputError)
