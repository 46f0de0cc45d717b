"""The trial's page: what its source gives away, and answers by keys in a real Chromium, read back."""

import json
import re

import pytest
from PIL import Image

import trial_stub
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.trials.blind import draw_pairs, read_answers
from alignvid.bench.trials.merging import outcomes_by_model
from alignvid.bench.trials.record import record_of
from alignvid.report.blind import write_blind_page
from alignvid.report.trial_sheet import write_sheet
from bench_stub import write_data
from chromium import CHROMIUM, FLAGS, needs_chromium


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trial")
    return trial_stub.run(trial_stub.planned(write_data(folder / "set", 3), folder / "log", scenes=3), folder / "out")


def test_the_pages_source_and_files_name_no_arm_and_no_job(result):
    folder = RunFolder(result.run.folder)
    page, pairs = write_blind_page(folder, result.registration)
    source = re.sub(r"<style>.*?</style>", "", page.read_text(), flags=re.DOTALL)  # where "baseline" is a word of CSS
    names = [*result.registration.arms, *(row.job for row in folder.videos()), "sample_"]
    assert pairs == 6
    assert not [name for name in names if re.search(rf"\b{re.escape(name)}", source)]
    files = {path.name for path in page.parent.iterdir()}
    assert files == {"index.html", *(f"{n:03d}-{side}.mp4" for n in range(1, 7) for side in ("left", "right")),
                     *(f"picture-{n:03d}.png" for n in range(1, 4))}  # fmt: skip
    sides = [pair.arm_is_left for pair in draw_pairs(result.registration, folder)]
    assert any(sides) and not all(sides)
    assert sides == [pair.arm_is_left for pair in draw_pairs(result.registration, folder)]


def test_the_sheet_has_a_row_for_each_scene_and_a_column_for_each_arm_that_a_model_made(result):
    folder = RunFolder(result.run.folder)
    (outcome,) = outcomes_by_model([record_of(result.registration, folder, [])])
    sheet = write_sheet(folder, result.registration, outcome)
    with Image.open(sheet) as image:
        assert image.width == 220 + 4 * 208 + 8 and image.height > 3 * 200


@pytest.mark.browser
@needs_chromium
def test_pairs_are_answered_by_keys_and_the_saved_file_is_read_back(result, tmp_path):
    from playwright.sync_api import sync_playwright

    folder, plan = RunFolder(result.run.folder), result.registration
    page_file, _ = write_blind_page(folder, plan)
    pairs = draw_pairs(plan, folder)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1366, "height": 768}, accept_downloads=True)
        page.set_default_timeout(120_000)  # on a loaded machine
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.goto(page_file.as_uri())
        page.wait_for_function("() => document.getElementById('left').readyState >= 2")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.screenshot(path=tmp_path / "page.png")
        for pair in pairs[:-1]:  # of the last one the second question stays open
            page.keyboard.press("ArrowLeft" if pair.arm_is_left else "ArrowRight")
            page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("b")
        page.keyboard.press("ArrowRight")
        assert "5 answered" in page.inner_text("#done")
        page.reload()
        assert "5 answered" in page.inner_text("#done")  # kept by the browser
        with page.expect_download() as saved:
            page.keyboard.press("s")
        saved.value.save_as(tmp_path / "answers.json")
        browser.close()
    assert not problems
    (rater,) = read_answers([tmp_path / "answers.json"], plan, pairs)
    assert [(row["follows"], row["apart"]) for row in rater.answers] == [(1, 0)] * 5
    assert len(json.loads((tmp_path / "answers.json").read_text())["answers"]) == 5
