"""The page in a real Chromium and its API with Gradio's own client, over the real command and the miniature."""

import json
import re
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import expect, sync_playwright

from alignvid.app.desk import made_scene
from alignvid.generate.record import read_record
from alignvid.media.videos import read_video
from app_server import served
from chromium import CHROMIUM, FLAGS, needs_chromium

TOKEN = "a-token-of-23-characters"
EXAMPLE = "add a green circle at the top left"
STEPS = "#steps :is(input, textarea)"

expect.set_options(timeout=120_000)  # a busy machine is no failure

pytestmark = [pytest.mark.browser, needs_chromium]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def url(runs):
    with served(runs, TOKEN) as url:
        yield url


@pytest.fixture(scope="module")
def client(url):
    return Client(url, headers={"Authorization": f"Bearer {TOKEN}"}, verbose=False, analytics_enabled=False)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, url):
    """Opens the page; afterwards nothing was asked of another server, and the console holds no error."""
    contexts, complaints = [], []

    def open_page(width=1366):
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        ours = (url, "data:", "blob:")
        page.on("request", lambda asked: asked.url.startswith(ours) or complaints.append(asked.url))
        page.goto(f"{url}?token={TOKEN}")
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
    if not page.locator(STEPS).is_visible():
        page.click("text=Settings")
    page.fill(STEPS, str(steps))


@pytest.mark.slow
def test_a_run_gives_its_steps_its_record_and_both_videos_and_is_repeated_exactly(client, runs, picture):
    job = client.submit(
        picture=handle_file(picture), prompt=made_scene(0)[1], follow=0.5, steps=2, api_name="/generate"
    )
    run, video, baseline = job.result(timeout=120)
    stages = [said["stage"] for said, _, _ in job.outputs()[:-1]]
    assert stages.count("steps") == 2 * 3 and stages[-1] == "encoding"
    assert run["record"] == json.loads((runs / run["run"] / "record.json").read_text())
    assert run["record"]["spec"]["follow"] == 0.5 and run["record"]["settings"]["steps"] == 2
    assert read_video(video).frames.shape == read_video(baseline).frames.shape
    again, *_ = client.predict(run=run["run"], api_name="/repeat")
    both = [read_record(runs / name).outputs["alignvid"]["frames_sha256"] for name in (run["run"], again["run"])]
    assert both[0] == both[1] and run["run"] != again["run"]
    newest = [one["run"] for one in client.predict(api_name="/runs")][:2]
    assert newest == [again["run"], run["run"]]


@pytest.mark.slow
def test_the_program_of_the_documentation_runs_as_it_stands(client, monkeypatch, capsys):
    """docs/app.md, but for the address, which is that of this server."""
    root = Path(__file__).parents[2]
    (program,) = re.findall(r"^```python\n(.*?)^```$", (root / "docs" / "app.md").read_text(), re.MULTILINE | re.DOTALL)
    here = f'Client("{client.src}", headers={{"Authorization": "Bearer {TOKEN}"}})'
    monkeypatch.chdir(root)
    exec(program.replace('Client("http://127.0.0.1:7860/")', here), {})
    name, acted = capsys.readouterr().out.split()[-2:]
    assert name and int(acted) > 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": " "}, "The prompt is empty"),
        ({"prompt": EXAMPLE}, "needs a reference image; put one into the form"),
        ({"prompt": EXAMPLE, "model": "no/such model"}, "is not there; give 'miniature'"),
    ],
)
def test_what_is_wrong_is_one_sentence(client, fields, said):
    with pytest.raises(AppError, match=said):
        client.predict(**fields, api_name="/generate")


def test_the_endpoints_are_those_that_are_documented(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/generate", "/repeat", "/runs", "/follow", "/attention"}


def playing(frame):
    """Where both videos are, once they have begun: the frame's own policy lets nothing wait inside it."""
    frame.page.locator("#result iframe").scroll_into_view_if_needed()  # they play while they are on screen
    for _ in range(600):
        times = frame.evaluate("[...document.querySelectorAll('video')].map((one) => one.currentTime)")
        if all(times):
            return times
        frame.page.wait_for_timeout(50)
    raise AssertionError("the videos do not play")


@pytest.mark.slow
def test_from_upload_to_two_videos_that_play_in_step_and_back_from_disk(opened, runs, picture):
    page = opened()
    fill(page, picture, made_scene(0)[1])
    page.click("#make")
    expect(page.locator("#status")).to_contain_text("Done")
    inside = page.frame_locator("#result iframe")
    expect(inside.locator("video")).to_have_count(2)
    times = playing(page.frames[1])
    assert abs(times[0] - times[1]) < 0.15
    record = page.locator("#result a", has_text="Open record").get_attribute("href")
    assert re.fullmatch(r"runs/[0-9]{8}-[0-9]{6}-[0-9a-f]{4}/record.json", record)
    again = opened(360)
    expect(again.locator("#history li")).to_have_count(sum(1 for _ in runs.iterdir()))
    assert again.evaluate("document.documentElement.scrollWidth") <= 360


def test_what_is_wrong_is_said_in_place_and_the_form_stays(opened, tmp_path):
    page, broken = opened(), tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    said = re.compile(r"^'broken.png' is not an image|^Image 'broken.png' is damaged")
    page.set_input_files("input[type=file]", broken)
    expect(page.locator("#checked .error")).to_have_text(said)
    for prompt, reason in (("add a red circle", said), ("  ", re.compile("The prompt is empty"))):
        page.fill("#prompt textarea", prompt)
        page.click("#make")
        expect(page.locator("#status .error")).to_have_text(reason)
        assert page.input_value("#prompt textarea") == prompt


@pytest.mark.slow
def test_a_loop_of_three_attempts_shows_each_with_the_judge_s_answers(opened, picture):
    page = opened()
    fill(page, picture, made_scene(0)[1], steps=1)  # one step: too few for any attempt to be right
    page.click("text=Until it is followed")
    page.fill("#budget input[type=number]", "3")
    page.click("#until")
    expect(page.locator("#status")).to_contain_text("Not followed in 3 attempts")
    inside = page.frame_locator("#result iframe")
    expect(inside.locator("section.row")).to_have_count(3)
    assert "Is the rest as it was?" in inside.locator("#attempt-2 .verdict").last.inner_text()
    expect(inside.locator(".verdict", has_text="the best")).to_have_count(1)
    expect(page.locator("#history li").first).to_contain_text("3 attempts")


@pytest.mark.slow
def test_cancel_ends_a_run_and_keeps_nothing_of_it(opened, runs, picture):
    page = opened()
    expect(page.locator("#history li")).to_have_count(before := sum(1 for _ in runs.iterdir()))
    fill(page, picture, made_scene(0)[1], steps=900)
    page.click("#make")
    expect(page.locator("#status")).to_contain_text("step")
    page.click("#cancel")
    expect(page.locator("#status")).to_contain_text("Cancelled")
    fill(page, None, made_scene(0)[1], steps=1)
    page.click("#make")
    expect(page.locator("#status")).to_contain_text("Done")
    expect(page.locator("#history li")).to_have_count(before + 1)


@pytest.mark.slow
def test_two_users_wait_for_the_one_model_and_each_gets_their_own(opened, picture):
    first, second = opened(), opened()
    prompts = [made_scene(number)[1] for number in (0, 1)]
    for page, prompt, steps in ((first, prompts[0], 150), (second, prompts[1], 2)):
        fill(page, picture, prompt, steps=steps)
    first.click("#make")
    expect(first.locator("#status")).to_contain_text("step")
    second.click("#make")
    second.wait_for_timeout(1_000)
    assert "Done" not in first.inner_text("#status") and "step" not in second.inner_text("#status")
    for page, prompt in ((first, prompts[0]), (second, prompts[1])):
        expect(page.locator("#status")).to_contain_text("Done")
        expect(page.frame_locator("#result iframe").locator(".prompt")).to_have_text(prompt)


@pytest.mark.slow
def test_words_are_picked_by_a_click_and_their_attention_is_seen_by_one(opened, picture):
    page = opened()
    page.click("#scene")
    page.wait_for_selector("#words-to-pick button")
    word = page.locator("#words-to-pick button").nth(2).get_attribute("data-value")
    page.locator("#words-to-pick button").nth(2).click()
    expect(page.locator("#words textarea, #words input")).to_have_value(f"{word}:1.6")
    fill(page, None, page.input_value("#prompt textarea"), steps=2)
    page.click("#make")
    expect(page.locator("#status")).to_contain_text("Done")
    page.locator(f"#look button[data-value='{word}']").click()
    inside = page.frame_locator("#look iframe")
    expect(inside.locator("video")).to_have_count(2)
    assert f"“{word}”" in inside.locator("h2").inner_text()
    page.locator("#history button", has_text="Repeat").first.click()
    expect(page.locator("#status")).to_contain_text("every frame is equal")


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1366, 1920])
def test_nothing_reaches_beyond_the_screen(opened, width):
    page = opened(width)
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
