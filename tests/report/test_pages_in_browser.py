"""Every page in one real Chromium: on a phone and on wide screens, by day, in the dark and in print."""

import shutil

import pytest
from playwright.sync_api import sync_playwright

from alignvid.bench.audits.audit import answered_questions, draw
from alignvid.bench.scoring.judged_run import Asked, read_judged_run
from alignvid.bench.scoring.scorecard import score_run
from alignvid.files import write_bytes
from alignvid.generate import GenerationSpec, JobResult
from alignvid.generate.record import read_record
from alignvid.report.attention import write_attention_page
from alignvid.report.audit import write_audit_page
from alignvid.report.benchmark import write_report
from alignvid.report.page import Count, Page, Verdict, render_page, write_page
from alignvid.report.rows import jobs_page, row_of_record, write_own_pages
from chromium import CHROMIUM, FLAGS, needs_chromium
from judged_folders import moving_square, sample_of, write_run

pytestmark = [pytest.mark.browser, needs_chromium]

WIDTHS = (360, 1366, 1920)
LEAST_CONTROL_PX = 24
QUICK = ("demo", "report")
KINDS = [
    pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow)
    for kind in ("jobs", "demo", "compare", "attention", "report", "audit")
]
PAIRS = {"jobs": ".clips.pair", "demo": ".clips.pair", "compare": ".clips.pair", "report": "#at-sample_0 .clips.pair"}

TOO_SMALL = """(least) => [...document.querySelectorAll("button, select, input, summary, a[href]")]
  .map((element) => [element.outerHTML.slice(0, 80), element.getBoundingClientRect()])
  .filter(([, box]) => box.width && (box.width < least || box.height < least))
  .map(([text, box]) => `${text} ${box.width} x ${box.height}`)"""
MADE_CLIPS = """(pair) => [...pair.querySelectorAll(".clip:not(.reference)")].map((clip) => {
  const box = clip.getBoundingClientRect();
  return [box.left, box.top, box.right, box.width];
})"""


@pytest.fixture(scope="module")
def pages(observed_run, tmp_path_factory):
    """One page of each kind, by its kind."""
    folder = tmp_path_factory.mktemp("pages")
    record, jobs, spec = read_record(observed_run), folder / "jobs", GenerationSpec(prompt="the cat puts on a hat")
    results = [JobResult(name, spec, jobs / name, record, None, was_finished=True) for name in ("scene-1", "scene-2")]
    for result in results:
        shutil.copytree(observed_run, result.folder)
    lost = JobResult(
        "lost", spec, jobs / "lost", None, f"The image {'long' * 30!r} cannot be read.", was_finished=False
    )
    write_own_pages(results, back="All jobs")
    attention = write_attention_page(jobs / "scene-1")
    verdicts = {"baseline": (Verdict("edit not shown", False), Verdict("something else changed", False)),
                "alignvid": (Verdict("edit shown", True),)}  # fmt: skip
    row = row_of_record(record, id="scene-1", folder="scene-1", verdicts=verdicts)
    demo = Page("AlignVid on the miniature", "Lead. " * 30, (row,), (Count("prompt followed, baseline", "3 of 8"),) * 4)
    write_bytes(jobs / "demo.html", render_page(demo).encode())
    samples = [sample_of(number) for number in range(4)]
    metrics = {"aesthetic_quality": lambda sample, variant, seed: 0.5}
    run = write_run(
        folder / "run", samples, clip=moving_square(), metrics=metrics, missing={("sample_3", "alignvid", 0)}
    )
    return {
        "jobs": write_page(jobs, jobs_page([*results, lost])),
        "demo": jobs / "demo.html",
        "compare": jobs / "scene-1" / "index.html",
        "attention": attention,
        "report": write_report(run.path, run.path / "report", score_run(run, Asked(), {})).page,
        "audit": write_audit_page(run.path, draw(answered_questions(read_judged_run(run, Asked())), 2, 0)),
    }


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, pages):
    """Opens a page of a kind; afterwards the console must be empty and only files were asked for."""
    page, complaints = browser.new_page(viewport={"width": 360, "height": 800}), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or complaints.append(asked.url))

    def open_page(kind):
        page.goto(pages[kind].as_uri())
        return page

    yield open_page
    page.close()
    assert complaints == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_fits_every_screen_and_its_controls_fit_a_finger(opened, kind):
    page = opened(kind)
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (theme, width)
            assert page.evaluate(TOO_SMALL, LEAST_CONTROL_PX) == [], (theme, width)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.values[0] in PAIRS])
def test_baseline_and_alignvid_stand_side_by_side_on_a_phone(opened, kind):
    pair = opened(kind).locator(PAIRS[kind]).first
    (left, top, right, width), (next_left, next_top, next_right, _) = pair.evaluate(MADE_CLIPS)
    assert top == next_top and left < right <= next_left < next_right <= 360
    assert width >= 140


def test_the_video_with_both_halves_is_a_download_and_no_third_player(opened):
    page = opened("compare")
    assert page.locator("video").count() == 2
    assert page.locator("a[download]").get_attribute("href") == "side_by_side.mp4"


def test_a_row_is_enlarged_and_fills_the_screen_by_button_and_by_key(opened):
    page = opened("compare")
    page.set_viewport_size({"width": 1366, "height": 800})
    width = "document.querySelector('video').getBoundingClientRect().width"
    before = page.evaluate(width)
    page.click(".enlarge")
    assert page.evaluate(width) > 1.5 * before
    page.locator("main .row").focus()
    page.keyboard.press("e")
    assert page.evaluate(width) == before
    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement?.id === 'video'")
    assert page.evaluate(width) > 1.5 * before
    page.click(".full-screen")
    page.wait_for_function("document.fullscreenElement === null")


def test_pages_on_the_same_videos_lead_to_each_other(opened):
    page = opened("jobs")
    page.click("#scene-1 >> text=Own page")
    page.click("text=Attention")
    page.wait_for_function("document.title === 'What attention did'")
    page.click("text=Comparison")
    page.click("text=All")
    page.wait_for_selector("#lost .error", state="attached")
    assert page.locator("#lost .error").count() == 1


def test_figures_are_dark_where_the_page_is(opened):
    page = opened("attention")
    ink = "Math.min(...getComputedStyle(document.querySelector('.panels svg text')).fill.match(/[0-9]+/g).slice(0, 3))"
    for theme, is_right in (("light", lambda value: value < 60), ("dark", lambda value: value > 200)):
        page.emulate_media(color_scheme=theme)
        assert is_right(page.evaluate(ink)), theme
    assert page.locator(".panels svg [style*='#ffffff']").count() == 0


def test_letters_of_figures_are_legible_on_a_phone(opened):
    for kind, figures in (("attention", ".panels svg"), ("report", ".plots svg")):
        heights = f"""() => [...document.querySelectorAll("{figures} text")]
            .filter((text) => text.textContent.trim()).map((text) => {{
                const to_screen = text.getScreenCTM();  // slanted for the label of a vertical axis
                return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(to_screen.a, to_screen.b);
            }})"""
        assert min(opened(kind).evaluate(heights)) >= 8, kind


def test_the_report_begins_with_its_videos(opened):
    page = opened("report")
    gallery, scores = (page.locator(f"#{id}").bounding_box()["y"] for id in ("gallery", "scores"))
    assert gallery < scores


@pytest.mark.parametrize("kind", KINDS)
def test_a_print_has_no_controls_and_nothing_beyond_its_margin(opened, kind):
    page = opened(kind)
    page.set_viewport_size({"width": 720, "height": 1000})
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    if kind != "audit":  # a form, which a person may fill in on paper
        assert page.locator("button:visible, select:visible, input:visible").count() == 0
