"""What the gain is: powers of gamma by target."""

from __future__ import annotations

import math

import pytest

from alignvid.errors import ModulationError
from alignvid.modulation import Scalar, split_target


def test_gain_is_a_power_of_gamma():
    released = Scalar(1.35, {"cross.text": 2.0, "cross.image": 1.0})
    assert released.gain("cross.text") == pytest.approx(1.8225)
    assert released.gain("cross.image") == pytest.approx(1.35)


def test_gamma_one_is_neutral_whatever_the_power():
    assert all(Scalar(1.0, {"cross.text": power}).gain("cross.text") == 1.0 for power in (-3.0, 0.0, 2.0))


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("gamma", [0, -1.0, math.nan, math.inf, -math.inf, "1.35", None, True], ids=repr)
def test_impossible_gamma_is_refused_with_the_value_and_the_remedy(gamma):
    with pytest.raises(ModulationError, match=r"finite positive number.*1\.35"):
        Scalar(gamma)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("target", ["text", "cross.", "cross text", "", "Cross.text", "cross.text.query", 3], ids=repr)
def test_impossible_target_is_refused(target):
    with pytest.raises(ModulationError, match=r"not a target; write site\.stream"):
        Scalar(1.35, {target: 1.0})


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("power", [math.nan, math.inf, "2", None, True], ids=repr)
def test_impossible_power_is_refused(power):
    with pytest.raises(ModulationError, match="not a finite number"):
        Scalar(1.35, {"cross.text": power})


def test_overflowing_gain_is_refused_not_infinite():
    with pytest.raises(ModulationError, match="not finite"):
        Scalar(10.0, {"cross.text": 1000.0}).gain("cross.text")


def test_modulation_without_a_target_is_refused():
    with pytest.raises(ModulationError, match="acts on nothing"):
        Scalar(1.35, {})


def test_scalar_is_frozen_hashable_and_apart_from_the_callers_dict():
    powers = {"cross.text": 2.0}
    scalar = Scalar(1.35, powers)
    powers["cross.text"] = 9.0
    assert scalar.powers == {"cross.text": 2.0}
    assert hash(scalar) == hash(Scalar(1.35, {"cross.text": 2.0}))
    with pytest.raises(TypeError):
        scalar.powers["cross.text"] = 1.0  # type: ignore[index]


def test_scalar_round_trips():
    scalar = Scalar(1.5, {"single.*": 1.0})
    assert Scalar.from_dict(scalar.to_dict()) == scalar


@pytest.mark.parametrize("fields", [{"gama": 1.35}, {"kind": "energy"}], ids=repr)
def test_unknown_fields_and_kinds_are_refused(fields):
    with pytest.raises(ModulationError):
        Scalar.from_dict(fields)


def test_target_splits_into_site_and_stream():
    assert split_target("cross.text") == ("cross", "text")
