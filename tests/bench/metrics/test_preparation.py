"""The digest of a metric's settings: under one digest, values can be compared."""

from dataclasses import replace

import pytest

from alignvid.bench.metrics.preparation import prepare
from alignvid.bench.metrics.temporal_flickering import METRIC
from alignvid.bench.records import NOT_LOADED
from alignvid.errors import InputError

GIVEN = {"metric": METRIC, "protocol": "native", "sources": {}, "device": "cpu", "extra": {"ratio": None}}


def digest(**changes) -> str:
    given = GIVEN | changes
    return prepare(given.pop("metric"), **given).settings_digest


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"metric": replace(METRIC, name="another")}, id="metric"),
        pytest.param({"metric": replace(METRIC, revision=METRIC.revision + 1)}, id="revision"),
        pytest.param({"metric": replace(METRIC, libraries=("numpy", "pillow"))}, id="libraries"),
        pytest.param({"protocol": "vbench"}, id="protocol"),
        pytest.param({"device": "cuda"}, id="device"),
        pytest.param({"extra": {"ratio": [3, 2]}}, id="what the command adds"),
    ],
)
def test_what_decides_a_value_gives_another_digest(change):
    assert digest(**change) != digest()


def test_which_of_several_devices_of_a_kind_decides_nothing():
    assert digest(device="cuda:1") == digest(device="cuda:0")


def test_a_metric_that_could_not_be_loaded_has_no_digest_and_says_why():
    def refuse(setup):
        raise InputError("Needs its weights.")

    ready = prepare(replace(METRIC, prepare=refuse), **{name: GIVEN[name] for name in GIVEN if name != "metric"})
    assert (ready.measure, ready.error, ready.settings_digest) == (None, "Needs its weights.", NOT_LOADED)
