"""The loop for a spec, in a folder, on the miniature; at a γ of 0.12 hardly a word is heard: nothing is followed."""

import json
import shutil
from dataclasses import replace

import pytest

from alignvid.errors import InputError
from alignvid.following import PictureRule, generate_until_followed
from alignvid.generate import GenerationSpec
from alignvid.generate.record import outputs_are_whole, read_record
from alignvid.miniature import weights_folder
from alignvid.miniature.drawing import FRAMES, HEIGHT, WIDTH


@pytest.fixture
def spec(tmp_path, picture, inputs):
    picture.save(tmp_path / "picture.png")
    return GenerationSpec(image=str(tmp_path / "picture.png"), prompt=inputs["prompt"], steps=1, seed=5, gamma=0.12)


def test_every_attempt_is_a_generation_with_its_record_and_the_best_lies_in_the_folder(spec, tmp_path, picture):
    rule, seen = PictureRule(picture, spec.prompt), []
    found = generate_until_followed(spec, tmp_path / "out", judge=rule, budget=2, on_attempt=seen.append)
    assert not found.is_followed and found.ended == "limit" and [one.seed for one in seen] == [5, 6]
    for number in (1, 2):
        folder = tmp_path / "out" / f"attempt-{number}"
        record = read_record(folder)
        assert record.spec["seed"] == 4 + number and outputs_are_whole(folder, record)
        assert ("proof" in record.attachment) is (number == 1)
    best = found.best.made.file
    assert (tmp_path / "out" / "best.mp4").read_bytes() == best.read_bytes()


def test_edited_questions_are_asked_about_the_videos_that_are_there(spec, tmp_path, picture):
    rule, out = PictureRule(picture, spec.prompt), tmp_path / "out"
    generate_until_followed(spec, out, judge=rule, budget=1)
    asked = json.loads((out / "questions.json").read_text())
    assert [one["about"] for one in asked] == ["edit", "rest"]
    (out / "questions.json").write_text(json.dumps([{"question": "Is it red?"}]))
    heard = []

    def judge(frames, questions):
        heard.append([one.question for one in questions])
        return [1.0]

    found = generate_until_followed(spec, out, judge=judge, budget=1, must_move=False)
    assert heard == [["Is it red?"]] and found.is_followed and found.attempts[0].was_there
    rows = [json.loads(line) for line in (out / "judged.jsonl").read_text().splitlines()]
    assert [len(row["answers"]) for row in rows] == [2, 1]


def test_a_video_that_was_changed_or_is_gone_is_made_again(spec, tmp_path):
    options = {"judge": lambda frames, questions: [0], "questions": ["Is it red?"], "budget": 1}
    first = generate_until_followed(spec, tmp_path / "out", **options)
    file = first.best.made.file
    content = file.read_bytes()
    file.write_bytes(content[:-9])
    again = generate_until_followed(spec, tmp_path / "out", **options)
    assert not again.attempts[0].was_there and file.read_bytes() == content


def test_attempts_are_not_resumed_with_other_weights_of_the_folder(spec, tmp_path):
    shutil.copytree(weights_folder(), tmp_path / "model")
    spec = replace(spec, model=str(tmp_path / "model"), width=WIDTH, height=HEIGHT, frames=FRAMES)
    options = {"judge": lambda frames, questions: [0], "questions": ["Is it red?"], "budget": 1}
    generate_until_followed(spec, tmp_path / "out", **options)
    file = tmp_path / "model" / "transformer" / "diffusion_pytorch_model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="holds attempts with other weights of the model; give a new folder"):
        generate_until_followed(spec, tmp_path / "out", **options)
