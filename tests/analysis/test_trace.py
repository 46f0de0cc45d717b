import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from alignvid.analysis.facts import MEASURES, AttentionMap, Fact
from alignvid.analysis.trace import Trace
from alignvid.errors import OutputError, TraceError

MODEL = {"transformer": "WanTransformer3DModel", "family": "wan", "config_sha256": "12"}


def fact(value, *, block=0, step=0, branch="cond", measure="entropy", keys="text", site="cross"):
    values = value if isinstance(value, tuple) else (value,)
    return Fact("transformer", "blocks", block, site, 0, step, 0.9, branch, "video", keys, measure, values)


def trace_of(*facts, model=MODEL):
    return Trace({"models": {"transformer": model}}, list(facts))


EXAMPLE = trace_of(
    *(fact(10.0 * block + step, block=block, step=step, branch=branch) for block in (0, 4) for step in (0, 1, 2)
      for branch in ("cond", "uncond")),
    fact(0.25, measure="mass", keys="image"),
)  # fmt: skip


def test_mean_has_an_axis_per_name():
    averages = EXAMPLE.mean("entropy", by=("block", "step"))
    assert averages.axes == ("block", "step") and averages.labels == ((0, 4), (0, 1, 2))
    assert averages.values.tolist() == [[0.0, 1.0, 2.0], [40.0, 41.0, 42.0]]


def test_mean_over_everything_is_one_number():
    assert EXAMPLE.mean("entropy", by=()).values == pytest.approx(21.0)


def test_mean_by_head_and_branch():
    trace = trace_of(fact((1.0, 3.0)), fact((5.0, 7.0), branch="uncond"))
    assert trace.mean("entropy", by=("branch", "head")).values.tolist() == [[1.0, 3.0], [5.0, 7.0]]
    assert trace.mean("entropy", by=("branch",)).values.tolist() == [2.0, 6.0]


def test_what_was_not_recorded_is_nan_in_a_mean():
    averages = trace_of(fact(1.0, block=0, step=0), fact(2.0, block=1, step=1)).mean("entropy", by=("block", "step"))
    assert np.isnan(averages.values).tolist() == [[False, True], [True, False]]


def test_where_keeps_what_fits():
    assert {item.block for item in EXAMPLE.where(block=4).facts} == {4}
    assert {item.step for item in EXAMPLE.where(step=range(1, 3)).facts} == {1, 2}
    assert len(EXAMPLE.where(block=0, step=1, branch="cond").facts) == 1


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: EXAMPLE.where(block=7), "The trace has no block 7 there; it has 0, 4."),
        (lambda: EXAMPLE.where(keys="audio"), "no keys 'audio' there; it has image, text"),
        (lambda: EXAMPLE.mean("heat"), "'heat' is not a measure; choose from entropy, normalised_entropy"),
        (lambda: EXAMPLE.mean("variance"), "The trace has no 'variance' there; it has entropy, mass."),
        (lambda: EXAMPLE.mean("entropy", by=("blocks",)), "'blocks' is not an axis of a trace; choose from host"),
        (lambda: Trace({}).mean("entropy"), "it has nothing"),
    ],
)
def test_asking_for_what_is_not_there_says_what_is(ask, message):
    with pytest.raises(TraceError, match=message):
        ask()


def test_compare_is_the_other_minus_this():
    change = trace_of(fact(1.0), fact(5.0, step=1)).compare(trace_of(fact(4.0), fact(9.0, step=2)))
    assert [(item.step, item.values) for item in change.facts] == [(0, (3.0,))]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (MODEL | {"transformer": "FluxModel"}, "of different models: the transformer is WanT.* in one, FluxModel in"),
        (MODEL | {"config_sha256": "34"}, "both have a WanTransformer3DModel as transformer, but of another config"),
    ],
)
def test_traces_of_different_models_are_not_compared(model, message):
    with pytest.raises(TraceError, match=message):
        trace_of(fact(1.0)).compare(trace_of(fact(1.0), model=model))


def test_traces_without_a_common_fact_are_not_compared():
    with pytest.raises(TraceError, match="share no fact: observe the same blocks, steps and heads"):
        trace_of(fact(1.0)).compare(trace_of(fact(1.0, block=1)))


def test_a_saved_trace_is_read_back_equal(trace_path):
    weights = np.random.default_rng(0).random((2, 3, 4), np.float32)
    item = AttentionMap("cat", "transformer", "blocks", 0, "cross", 0, 1, "cond", weights)
    trace = replace(EXAMPLE, maps=[item], problems=["one"], facts=[*EXAMPLE.facts, fact((1 / 3, 0.5))])
    trace.save(trace_path)
    read = Trace.load(trace_path)
    assert read.facts == trace.facts and read.origin == trace.origin and read.problems == ["one"]
    assert read.maps[0][:-1] == item[:-1] and np.array_equal(read.maps[0].weights, weights)


def test_an_empty_trace_is_read_back(trace_path):
    Trace({"models": {}}).save(trace_path)
    assert Trace.load(trace_path) == Trace({"models": {}})


def test_reading_a_trace_needs_no_torch(trace_path):
    EXAMPLE.save(trace_path)
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['diffusers'] = None\n"
        "from alignvid.analysis.trace import Trace; print(Trace.load(sys.argv[1]))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(trace_path)], capture_output=True, text=True)
    assert run.stderr == "" and run.stdout.startswith("Trace of transformer: 13 facts (entropy, mass) from 2 blocks")


def test_a_missing_file_is_one_sentence(trace_path):
    with pytest.raises(TraceError, match=r"There is no trace .*run.trace'; give a file written by trace.save"):
        Trace.load(trace_path)


@pytest.mark.parametrize("kept", [0, 5, 300, -1])
def test_a_truncated_file_is_one_sentence(trace_path, kept):
    EXAMPLE.save(trace_path)
    trace_path.write_bytes(trace_path.read_bytes()[:kept])
    with pytest.raises(TraceError, match=r"run.trace' is cut short or is no trace \(.*\); record it again"):
        Trace.load(trace_path)


def test_a_folder_is_no_trace(tmp_path):
    with pytest.raises(TraceError, match="is cut short or is no trace"):
        Trace.load(tmp_path)


def test_another_safetensors_file_is_no_trace(trace_path):
    save_file({"weight": np.zeros(3, np.float32)}, trace_path)
    with pytest.raises(TraceError, match="is a safetensors file, but not a trace"):
        Trace.load(trace_path)


def test_another_schema_version_is_refused(trace_path):
    save_file({"values": np.zeros(3)}, trace_path, {"alignvid_trace": "2", "content": "{}"})
    with pytest.raises(TraceError, match="has schema version 2, but this alignvid reads version 1; record it again"):
        Trace.load(trace_path)


def test_a_damaged_file_is_one_sentence(trace_path):
    save_file({"values": np.zeros(3)}, trace_path, {"alignvid_trace": "1", "content": json.dumps({"origin": {}})})
    with pytest.raises(TraceError, match=r"run.trace' is damaged .*; record it again"):
        Trace.load(trace_path)


def test_a_trace_that_cannot_be_written_leaves_the_earlier_one(trace_path):
    EXAMPLE.save(trace_path)
    before = trace_path.read_bytes()
    with pytest.raises(OutputError):
        EXAMPLE.save(trace_path / "inside a file")
    assert trace_path.read_bytes() == before


def test_every_measure_is_explained():
    assert all(MEASURES.values()) and "pooled_mass" in MEASURES
