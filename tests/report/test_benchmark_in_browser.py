"""The benchmark's report in a real Chromium, opened from disk after it was moved away from its run."""

import shutil
from pathlib import Path

import pytest

from alignvid.bench.scoring.judged_run import Asked
from alignvid.bench.scoring.scorecard import score_run
from alignvid.bench.verdicts import Verdict
from alignvid.report.benchmark import write_report
from chromium import CHROMIUM, FLAGS, needs_chromium
from judged_folders import moving_square, right, sample_of, write_run, wrong

VARIANTS = ("baseline", "alignvid", "cfg-3")
ATTACK = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> \"quoted\" & $money$ </script>"
COUNT = 60
FPS = 8

pytestmark = [pytest.mark.browser, needs_chromium]


def number(sample) -> int:
    return int(sample.id.split("_")[1])


def decide(sample, variant, seed, question):
    """At seed 0, alignvid mends q0 of every fifth sample and breaks it in sample 7; sample 9 has an unparsed reply."""
    if question.id != "q0" or seed:
        return right(question)
    if (number(sample), variant) == (9, "cfg-3"):
        return Verdict.UNPARSED
    is_wrong = number(sample) == 7 if variant == "alignvid" else number(sample) % 5 == 0
    return wrong(question) if is_wrong else right(question)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    samples = [sample_of(n, prompt=ATTACK if n == 2 else None) for n in range(COUNT)]
    run = write_run(
        folder / "run",
        samples,
        variants=VARIANTS,
        seeds=(0, 1),
        decide=decide,
        clip=moving_square(),
        missing={("sample_3", "alignvid", 0)},
        metrics={"aesthetic_quality": lambda sample, variant, seed: 0.5 + 0.001 * number(sample)},
    )
    write_report(run.path, run.path / "report", score_run(run, Asked(), {}))
    moved = folder / "somewhere else"
    (run.path / "report").rename(moved)
    shutil.rmtree(run.path)
    return moved


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, report):
    """The open page; afterwards, that nothing was asked of anything but the folder, and the console stayed empty."""
    context = browser.new_context(viewport={"width": 1366, "height": 900})
    page = context.new_page()
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((report / "index.html").as_uri())
    page.wait_for_selector("html[data-ready-ms]")
    yield page
    context.close()
    assert [url for url in requests if not url.startswith((report.as_uri() + "/", "data:"))] == []
    assert requests
    assert complaints == []


def shown_ids(page) -> list[str]:
    return page.eval_on_selector_all(".row:not([hidden])", "rows => rows.map(row => row.id.slice(3))")


def choose(page, **values):
    for id, value in values.items():
        page.select_option(f"#{id}", value)


def times_of(page, sample: str) -> list[float]:
    return page.eval_on_selector_all(f"#at-{sample} video", "videos => videos.map(video => video.currentTime)")


def show(page, sample: str):
    page.evaluate(f"document.getElementById('at-{sample}').scrollIntoView()")
    page.wait_for_selector(f"#at-{sample} .clips")


def test_the_videos_of_a_row_play_in_step(page):
    show(page, "sample_4")
    page.wait_for_function(
        "() => [...document.querySelectorAll('#at-sample_4 video')].every(video => video.currentTime > 0.3)"
    )
    times = times_of(page, "sample_4")
    assert len(times) == 3
    assert max(times) - min(times) < 0.12  # a frame lasts 0.125 s


def test_a_sample_shows_reference_prompt_videos_and_each_verdict(page):
    show(page, "sample_5")
    row = page.locator("#at-sample_5")
    assert row.locator("h2 .prompt").text_content() == "scene 5: add a green circle at the top left"
    assert row.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
    assert row.locator("figcaption").all_text_contents() == [
        "reference", "baseline1 of 2 right", "alignvid2 of 2 right", "cfg-31 of 2 right",
    ]  # fmt: skip
    cells = row.locator("tbody tr").first.locator("td").all_text_contents()
    assert cells[0] == "Is claim 0 of scene 5 true? edit"
    assert cells[1] == "yes"
    assert [cell.split(",")[0] for cell in cells[2:]] == ["✗ nono", "✓ yesyes", "✗ nono"]


def test_columns_are_chosen_and_what_is_compared_with_is_shown(page):
    show(page, "sample_5")
    row = page.locator("#at-sample_5")
    assert page.text_content("#column-count") == "3 of 3"
    page.locator("#columns > summary").click()
    page.get_by_role("checkbox", name="alignvid", exact=True).uncheck()
    assert row.locator("video").count() == 2 and row.locator("th").count() == 4
    assert row.locator("figcaption").all_text_contents()[1:] == ["baseline1 of 2 right", "cfg-31 of 2 right"]
    choose(page, against="2")
    choose(page, against="1")
    assert page.text_content("#column-count") == "3 of 3" and row.locator("video").count() == 3


def test_filters_choose_by_category_outcome_and_words(page):
    assert len(shown_ids(page)) == COUNT
    choose(page, main_category="addition")
    assert shown_ids(page) == [f"sample_{n}" for n in range(COUNT) if n % 3 == 1]
    choose(page, main_category="", outcome="up")
    # Sample 3 has no video to compare; of the others every fifth was mended.
    assert shown_ids(page) == [f"sample_{n}" for n in range(0, COUNT, 5)]
    choose(page, outcome="down")
    assert shown_ids(page) == ["sample_7"]
    choose(page, outcome="unparsed")
    assert shown_ids(page) == ["sample_9"]
    choose(page, outcome="missing")
    assert shown_ids(page) == ["sample_3"]
    page.click("#clear")
    page.fill("#search", "scene 41:")
    page.wait_for_function("() => document.querySelectorAll('.row:not([hidden])').length === 1")
    assert page.text_content("#shown") == f"1 of {COUNT} samples"
    page.fill("#search", "nowhere to be found")
    page.wait_for_selector("#nothing", state="visible")


def test_flips_follow_the_variant_and_the_seed_that_are_chosen(page):
    choose(page, outcome="up", against="2")
    assert shown_ids(page) == []  # cfg-3 errs where the baseline does
    choose(page, against="1", seed="1")
    assert shown_ids(page) == []  # at seed 1 everything is right
    choose(page, seed="0")
    assert len(shown_ids(page)) == COUNT // 5


def test_another_seed_shows_other_videos(page):
    show(page, "sample_0")
    sources = "videos => videos.map(video => video.getAttribute('src'))"
    before = page.eval_on_selector_all("#at-sample_0 video", sources)
    choose(page, seed="1")
    after = page.eval_on_selector_all("#at-sample_0 video", sources)
    assert len({*before, *after}) == 6


def test_the_largest_gains_come_first_when_asked(page):
    choose(page, order="gains")
    assert shown_ids(page)[:2] == ["sample_0", "sample_5"]
    choose(page, order="losses")
    assert shown_ids(page)[0] == "sample_7"
    choose(page, order="")
    assert shown_ids(page) == [f"sample_{n}" for n in range(COUNT)]


def test_keys_move_play_and_step_and_do_not_type_into_the_search(page):
    page.wait_for_selector("#at-sample_0.current")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("#at-sample_1.current .clips")
    page.wait_for_function("() => document.querySelector('#at-sample_1 video').currentTime > 0")
    page.keyboard.press(" ")
    page.wait_for_function("() => document.querySelector('#at-sample_1 video').paused")
    before = times_of(page, "sample_1")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(200)
    after = times_of(page, "sample_1")
    assert [int(time * FPS) for time in after] == [int(before[0] * FPS) + 1] * 3
    page.keyboard.press("/")
    page.keyboard.type("scene 41:")
    page.wait_for_function("() => document.querySelectorAll('.row:not([hidden])').length === 1")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")  # nowhere to go: the only row stays the current one
    assert page.locator(".row.current").get_attribute("id") == "at-sample_41"


def test_a_row_that_keys_go_to_is_in_sight_below_the_filters(page):
    for _ in range(12):
        page.keyboard.press("ArrowDown")
    page.wait_for_selector("#at-sample_12.current .clips")
    page.wait_for_timeout(300)
    bottom_of_filters = page.locator("nav").bounding_box()["height"]
    assert bottom_of_filters <= page.locator("#at-sample_12").bounding_box()["y"] <= bottom_of_filters + 60


def test_only_rows_near_the_screen_hold_videos(page):
    for sample in ("sample_20", "sample_40", "sample_59"):
        show(page, sample)
        page.wait_for_timeout(200)
    assert 3 <= page.locator("video").count() <= 24
    assert page.locator("#at-sample_20 video").count() == 0


def test_text_of_the_data_is_shown_and_never_run(page):
    show(page, "sample_2")
    assert page.locator("#at-sample_2 .prompt").text_content() == ATTACK
    assert page.evaluate("window.hacked") is None
    assert page.locator("#at-sample_2 script, #at-sample_2 .prompt *").count() == 0


def test_a_missing_video_says_so_and_the_others_play(page):
    show(page, "sample_3")
    assert page.locator("#at-sample_3 .no-video").text_content() == "no video yet"
    assert page.locator("#at-sample_3 video").count() == 2


def test_a_link_to_a_sample_opens_it(browser, report):
    page = browser.new_page(viewport={"width": 1366, "height": 900})
    page.goto((report / "index.html").as_uri() + "#at-sample_50")
    page.wait_for_selector("#at-sample_50.current video")
    page.close()


def test_a_phone_scrolls_down_and_never_sideways(browser, report):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto((report / "index.html").as_uri())
    page.wait_for_selector("html[data-ready-ms]")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()
