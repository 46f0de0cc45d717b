import json
from dataclasses import replace

import numpy as np
import pytest

import model_folders
from alignvid.analysis.trace import Trace
from alignvid.errors import InputError, ObservationError, ScheduleError
from alignvid.generate import GenerationSpec, ObservationSpec, generate, parse_words, read_traces, repeat
from alignvid.generate.record import Record, read_record


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_run_leaves_a_trace_that_the_record_names(i2v_spec, tmp_path):
    made = generate(i2v_spec, tmp_path, compare=True, observation=ObservationSpec(words=("cat",)))
    assert {"baseline.trace", "alignvid.trace"} <= set(names(tmp_path))
    traces = read_traces(tmp_path, read_record(tmp_path))
    assert traces["baseline"].origin["attached"] == {} and traces["alignvid"].origin["attached"]
    assert {item.name for item in traces["alignvid"].maps} == {"cat"}
    assert made.record.traces["alignvid"]["words"] == ["cat"]


def test_observing_changes_no_frame(i2v_spec, tmp_path):
    plain = generate(i2v_spec, tmp_path / "a")
    observed = generate(i2v_spec, tmp_path / "b", observation=ObservationSpec())
    assert np.array_equal(plain.frames["alignvid"], observed.frames["alignvid"])


def test_blocks_and_steps_are_chosen(i2v_spec, tmp_path):
    generate(i2v_spec, tmp_path, observation=ObservationSpec(blocks="0", steps="0.0-0.5"))
    facts = Trace.load(tmp_path / "alignvid.trace").facts
    assert {(fact.block, fact.step) for fact in facts} == {(0, 0)}


def test_a_record_is_repeated_with_eyes_on_it(i2v_spec, tmp_path):
    first = generate(i2v_spec, tmp_path / "a")
    second = repeat(tmp_path / "a", tmp_path / "b", observation=ObservationSpec())
    assert np.array_equal(first.frames["alignvid"], second.frames["alignvid"])
    assert "alignvid.trace" in names(tmp_path / "b") and not first.record.traces


def test_a_record_of_before_there_were_traces_is_read(i2v_spec, tmp_path):
    values = generate(i2v_spec, tmp_path).record.to_dict()
    del values["traces"]
    assert Record.from_dict(json.loads(json.dumps(values))).traces == {}


def test_words_are_read_once_each():
    assert parse_words("cat, red circle,cat,") == ("cat", "red circle")


@pytest.mark.parametrize("text", ["", " , "])
def test_no_word_is_refused(text):
    with pytest.raises(InputError, match="names no word; write for example"):
        parse_words(text)


@pytest.mark.parametrize("choice", [{"blocks": "some"}, {"steps": "early"}])
def test_blocks_and_steps_that_cannot_be_read_are_told_at_once(choice):
    with pytest.raises(ScheduleError):
        ObservationSpec(**choice)


@pytest.mark.parametrize(
    ("prompt", "word", "error", "message"),
    [
        ("the cat puts on sunglasses", "dog", InputError, "The word 'dog' is not in the prompt"),
        ("the cat puts on sunglasses", "glasses", ObservationError, "The word 'glasses' is not in the prompt"),
        ("the cat " * 300 + "puts on sunglasses", "sunglasses", InputError, "reads 512 tokens, and 'sunglasses'"),
    ],
)  # fmt: skip
def test_a_word_that_the_model_does_not_read_leaves_nothing(i2v_spec, tmp_path, prompt, word, error, message):
    with pytest.raises(error, match=message):
        generate(replace(i2v_spec, prompt=prompt), tmp_path, observation=ObservationSpec(words=(word,)))
    assert names(tmp_path) == []


def test_words_of_a_templated_prompt_are_refused_with_the_other_way(picture, tmp_path, monkeypatch):
    from alignvid.generate import loading

    folders = model_folders.save_framepack_f1(tmp_path / "models")
    monkeypatch.setattr(loading, "_FRAMEPACK_BASE", str(folders.base))
    monkeypatch.setattr(loading, "_FRAMEPACK_IMAGE_ENCODER", str(folders.image_encoder))
    size = {"width": 48, "height": 32, "frames": 9, "steps": 2}
    spec = GenerationSpec(model=str(folders.transformer), image=str(picture), prompt="the cat", **size)
    with pytest.raises(InputError, match=r"not for framepack, .*; leave --words out, or give alignvid.observe\(maps"):
        generate(spec, tmp_path / "out", observation=ObservationSpec(words=("cat",)))
