"""Who judges on the page: the rule for the miniature's pictures, or the command line's judge for any model."""

import shutil

import pytest

from alignvid.app.desk import made_scene
from alignvid.app.form import Form
from alignvid.app.judging import JudgeChoice, judge_of
from alignvid.app.workshop import Workshop
from alignvid.bench.judges import frames, server
from alignvid.errors import InputError
from alignvid.generate import GenerationSpec
from alignvid.generate.plan import plan
from alignvid.miniature import weights_folder
from stub_server import stub_server


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(server, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(frames, "_MIN_TOKENS", 4)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def scene(tmp_path):
    picture, prompt = made_scene(0)
    picture.save(tmp_path / "scene.png")
    return str(tmp_path / "scene.png"), prompt


@pytest.fixture
def folder(tmp_path):
    """A model that is not the miniature by name."""
    return str(shutil.copytree(weights_folder(), tmp_path / "model"))


def answering(exchange):
    if "checklist" in exchange.question:
        exchange.say("EDIT: Is there a purple circle?\nKEEP: Is the background as it was?")
    else:
        exchange.say("Yes.")


def test_the_rule_judges_the_miniature_alone_and_asks_its_own_questions(scene, folder):
    picture, prompt = scene
    planned = plan(GenerationSpec(prompt=prompt, image=picture))
    asked = judge_of(planned, "", JudgeChoice())
    assert asked.questions is None and [one.about for one in asked.judge.questions] == ["edit", "rest"]
    with pytest.raises(InputError, match="leave the questions empty"):
        judge_of(planned, "Is it red?", JudgeChoice("rule"))
    other = plan(GenerationSpec(prompt=prompt, image=picture, model=folder))
    with pytest.raises(InputError, match="start the page with --judge transformers"):
        judge_of(other, "", JudgeChoice())


@pytest.mark.slow
def test_a_model_s_folder_is_run_with_its_preset_and_judged_by_a_server(scene, folder, tmp_path):
    picture, prompt = scene
    form = Form(prompt=prompt, picture=picture, model=folder, size="80x80", frames=9, steps=1, guidance=1)
    with stub_server(answering) as (_, address):
        shop = Workshop(tmp_path / "runs", {}, JudgeChoice("openai", {"base_url": address}))
        run, found = shop.follow(form, "", 2, lambda seen: None)
    assert run.record.model["location"] == folder and run.record.attachment["name"].startswith("miniature")
    asked = [one.question.question for one in found.attempts[0].answers]
    assert asked == ["Is there a purple circle?", "Is the background as it was?"]
    assert all(one.is_right for one in found.attempts[0].answers)
