"""The page in a real Chromium, over the real server and the miniature."""

import re

import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from alignvid.app.desk import made_scene
from app_server import served
from chromium import CHROMIUM, FLAGS, needs_chromium

pytestmark = [pytest.mark.browser, needs_chromium]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("runs")) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, server):
    """Opens the page; afterwards nothing was asked of another server, and the console holds no error."""
    contexts, complaints = [], []

    def open_page(width=1366):
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        ours = (server.url, "data:", "blob:")
        page.on("request", lambda asked: asked.url.startswith(ours) or complaints.append(asked.url))
        page.goto(server.url)
        page.wait_for_selector("#make")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    made_scene(0)[0].save(path)
    return path


def fill(page, picture, prompt, *, steps=2):
    if picture:
        page.set_input_files("input[type=file]", picture)
        page.wait_for_selector("#picture img")
    page.fill("#prompt textarea", prompt)
    if page.locator("#steps input").count() == 0 or not page.locator("#steps input").is_visible():
        page.click("text=Settings")
    page.fill("#steps input", str(steps))


def test_from_upload_to_two_videos_that_play_in_step_and_back_from_disk(opened, server, picture):
    page = opened()
    fill(page, picture, made_scene(0)[1])
    page.click("#make")
    expect(page.locator("#status")).to_contain_text("Done", timeout=60_000)
    inside = page.frame_locator("#result iframe")
    expect(inside.locator("video")).to_have_count(2)
    page.frames[1].wait_for_function("[...document.querySelectorAll('video')].every((one) => one.currentTime > 0)")
    times = page.frames[1].evaluate("[...document.querySelectorAll('video')].map((one) => one.currentTime)")
    assert abs(times[0] - times[1]) < 0.15
    record = page.locator("#result a", has_text="Open record").get_attribute("href")
    assert re.fullmatch(r"runs/[0-9]{8}-[0-9]{6}-[0-9a-f]{4}/record.json", record)
    again = opened(360)
    assert again.locator("#history li").count() == 1
    assert again.evaluate("document.documentElement.scrollWidth") <= 360


def test_what_is_wrong_is_said_in_place_and_the_form_stays(opened, tmp_path):
    page = opened()
    broken, huge = tmp_path / "broken.png", tmp_path / "huge.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    Image.new("1", (8_000, 7_000)).save(huge)
    for file, said in ((broken, "'broken.png' is not an image|'broken.png' is damaged"), (huge, "56.0 megapixels")):
        page.set_input_files("input[type=file]", file)
        expect(page.locator("#checked .error")).to_have_text(re.compile(said))
        page.fill("#prompt textarea", "add a red circle")
        page.click("#make")
        expect(page.locator("#status .error")).to_have_text(re.compile(said))
        assert page.input_value("#prompt textarea") == "add a red circle"
        page.click("[aria-label='Clear']")
    page.fill("#prompt textarea", "  ")
    page.click("#make")
    expect(page.locator("#status .error")).to_contain_text("The prompt is empty")
