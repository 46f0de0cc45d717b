import re

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from alignvid.media.videos import write_video
from alignvid.report.page import Clip, Count, Page, Row, Verdict, render_page, write_page
from chromium import CHROMIUM, FLAGS, Links, needs_chromium


def page_of(*clips, prompt="the cat jumps", **more):
    return Page(title="Title", lead="Lead.", rows=(Row(id="a", prompt=prompt, clips=clips, fps=8.0, **more),))


def clip(label="baseline", file="a/baseline.mp4", **more):
    return Clip(label, file, 64, 64, **more)


def test_every_address_is_relative_and_inside_the_folder():
    links = Links()
    links.feed(render_page(page_of(clip(), clip(file="a/odd #name?.mp4"), record_file="a/record.json")))
    assert "a/odd%20%23name%3F.mp4" in links.found
    for link in links.found:
        assert re.fullmatch(r"data:,|#\w+|[\w%.-]+(/[\w%.-]+)*", link)


def test_no_text_becomes_markup():
    text = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
    verdict = Verdict(text, is_good=True, detail=text)
    html = render_page(
        Page(
            text,
            text,
            (*page_of(clip(text, verdicts=(verdict,)), prompt=text, notes=(text,)).rows,),
            (Count(text, text),),
        )
    )
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_verdicts_and_counts_are_shown():
    bad = Verdict("edit not shown", is_good=False, detail="top left: nothing instead of a large red circle")
    page = page_of(clip(verdicts=(bad,)))
    html = render_page(Page(page.title, page.lead, page.rows, (Count("prompt followed", "3 of 8"),)))
    assert "✗ edit not shown" in html
    assert "top left: nothing instead" in html
    assert "3 of 8" in html


def test_small_clips_keep_their_pixels_and_large_ones_are_smoothed():
    assert "pixel-art" in render_page(page_of(clip())).split("</style>")[1]
    assert "pixel-art" not in render_page(page_of(Clip("baseline", "a.mp4", 832, 480))).split("</style>")[1]


def test_videos_are_loaded_when_they_come_into_view():
    html = render_page(page_of(clip(), Clip("reference", "a.png", 64, 64)))
    assert 'preload="none"' in html
    assert 'loading="lazy"' in html


def test_a_row_without_videos_says_why():
    assert "No video: the disk was full" in render_page(page_of(error="the disk was full"))


def test_the_page_is_one_file(tmp_path):
    path = write_page(tmp_path, page_of(clip()))
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.html"] == [path.name]


@pytest.mark.browser
@needs_chromium
def test_a_browser_plays_the_page_from_disk(tmp_path):
    frames = np.zeros((40, 64, 64, 3), np.uint8)
    for name in ("baseline", "alignvid"):
        write_video(tmp_path / f"{name}.mp4", frames, fps=8)
    page = write_page(tmp_path, page_of(clip(file="baseline.mp4"), clip("AlignVid", "alignvid.mp4")))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        opened = browser.new_page()
        opened.goto(page.as_uri())
        is_playing = "parseFloat(document.querySelector('.time').textContent) > 0"
        opened.wait_for_function(is_playing, timeout=60_000)  # without a click
        assert "❚❚" in opened.content()
        browser.close()
