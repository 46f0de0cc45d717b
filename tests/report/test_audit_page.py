"""The audit's page, as text and in a real Chromium that opens it from disk."""

import json
import re
import time
from dataclasses import replace

import pytest

from alignvid.bench.audits.audit import answered_questions, draw, read_human_answers
from alignvid.bench.judges import JudgeOptions, open_judge
from alignvid.bench.judges.judging import judge_run
from alignvid.bench.scoring.judged_run import Asked, read_judged_run
from alignvid.report.audit import render_audit_page, write_audit_page
from chromium import CHROMIUM, FLAGS, needs_chromium
from rendered_runs import VARIANTS, rendered_run

in_browser = [pytest.mark.browser, needs_chromium]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that the rule has judged."""
    run = rendered_run(tmp_path_factory.mktemp("audit") / "a run", samples=2)
    judge_run(run, open_judge("rule", JudgeOptions()), limit=None, on_answer=lambda row, count: None)
    return run


@pytest.fixture(scope="module")
def drawn(run):
    return draw(answered_questions(read_judged_run(run, Asked())), 6, 0)


def test_the_page_tells_neither_variant_nor_verdict_nor_expectation(drawn):
    data = json.loads(re.search(r'id="items">(.*?)</script>', render_audit_page(drawn))[1])
    assert [set(item) for item in data] == [{"job", "question", "text", "video", "isPixelArt"}] * len(drawn)
    shown = json.dumps(data)
    for told in (*VARIANTS, "expected", "verdict", *(item.sample.prompt for item in drawn)):
        assert told not in shown


def test_every_address_is_a_video_beside_the_page(drawn):
    html = render_audit_page(drawn)
    assert re.findall(r'"video": "([^"]+)"', html) == [item.video for item in drawn]
    assert "http" not in html.replace("http-equiv", "")


def test_no_text_becomes_markup(drawn):
    attack = "</script><img src=x onerror=alert(1)>"
    item = replace(drawn[0], question=replace(drawn[0].question, question=attack))
    assert "<img" not in render_audit_page([item])


def test_a_page_without_questions_says_so():
    assert "nothing to audit" in render_audit_page([])


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, run, drawn):
    """The open page; afterwards, that it asked for nothing but its folder, and said nothing on the console."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    page, asked, complaints = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(write_audit_page(run.path, drawn).as_uri())
    yield page
    context.close()
    assert [url for url in asked if not url.startswith((run.path.as_uri(), "blob:", "data:"))] == []
    assert complaints == []


def wait_until(page, claim):
    """Playwright's own wait evaluates text in the page, which its content security policy forbids."""
    give_up = time.monotonic() + 30
    while not page.evaluate(claim):
        assert time.monotonic() < give_up, claim
        page.wait_for_timeout(50)


def answers_saved_by(page, button, folder):
    with page.expect_download() as download:
        page.click(button)
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


class TestInBrowser:
    pytestmark = in_browser

    def test_the_video_of_each_question_plays(self, page, drawn):
        for item in drawn[:2]:
            wait_until(page, "document.getElementById('video').currentTime > 0.1")
            assert page.get_attribute("#video", "src") == item.video
            assert page.inner_text("#question") == item.question.question
            page.keyboard.press("ArrowRight")

    @pytest.mark.parametrize("button", ["#save-json", "#save-csv"])
    def test_answers_by_key_and_button_come_back_from_the_file(self, page, drawn, button, tmp_path):
        for key in ("y", "n", "u"):
            page.keyboard.press(key)
        page.click("[data-answer=no]")
        assert page.inner_text("#done") == "· 4 answered"

        path = answers_saved_by(page, button, tmp_path)

        expected = dict(zip([item.key for item in drawn], ["yes", "no", "unclear", "no"], strict=False))
        assert read_human_answers(path, {item.key: item for item in drawn}) == expected

    def test_an_answer_can_be_changed(self, page, drawn, tmp_path):
        page.keyboard.press("y")
        page.keyboard.press("ArrowLeft")
        assert page.get_attribute("[data-answer=yes]", "aria-pressed") == "true"
        page.keyboard.press("n")

        path = answers_saved_by(page, "#save-json", tmp_path)

        assert json.loads(path.read_text())["answers"] == [
            {"job": drawn[0].job, "question": drawn[0].question.id, "answer": "no"}
        ]

    def test_answers_outlive_a_reload_and_the_page_goes_on_after_them(self, page):
        page.keyboard.press("y")
        page.keyboard.press("n")
        page.reload()
        assert page.inner_text("#done") == "· 2 answered"
        assert page.inner_text("#place").startswith("Question 3 of")

    def test_space_pauses_the_video(self, page):
        wait_until(page, "document.getElementById('video').currentTime > 0")
        page.keyboard.press("Space")
        assert page.evaluate("document.getElementById('video').paused")
