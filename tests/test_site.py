"""The documentation as a site, built strictly and read in a real Chromium on a phone and on a desk."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from chromium import CHROMIUM, FLAGS, needs_chromium

ROOT = Path(__file__).parents[1]
MKDOCS = Path(os.environ.get("ALIGNVID_SITE", ROOT / ".venv-site")) / "bin" / "mkdocs"
WIDTHS = (360, 1366)
PAGES = (
    "index",
    "install",
    "tutorials/hobbyist",
    "models",
    "scripts",
    "api",
    "api/alignvid",
    "concepts",
    "faq",
    "compare",
    "support",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    needs_chromium,
    pytest.mark.skipif(not MKDOCS.exists(), reason="make site installs mkdocs apart"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[str]:
    """Address of the site, on this machine."""
    folder = tmp_path_factory.mktemp("site")
    command = [str(MKDOCS), "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(site) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser.new_page(base_url=site)
        browser.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_asks_elsewhere_or_is_wider_than_the_screen(site, page, width):
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_viewport_size({"width": width, "height": 800})
    for name in PAGES:
        page.goto(f"/{name}.html", wait_until="load")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width, name
        assert page.locator(".md-content h1").count() == 1, name
    assert [url for url in asked if not url.startswith((site, "data:", "blob:"))] == []
    assert errors == []


@pytest.mark.parametrize("width", WIDTHS)
def test_search_finds_a_word_and_its_page(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.goto("/index.html")
    if width == min(WIDTHS):
        page.locator("label[for=__search]").first.click()
    page.locator(".md-search__input").fill("log-bias")
    found = page.locator(".md-search-result__item a").first
    found.wait_for(timeout=20_000)
    titles = page.locator(".md-search-result__item").all_inner_texts()
    assert any("log-bias" in title.lower() for title in titles)


def test_the_models_are_filtered_by_what_is_typed(page):
    page.goto("/models.html")
    field = page.locator(".table-filter")
    rows = page.locator(".md-typeset table tbody tr:visible")
    everything = rows.count()
    field.fill("flux kontext")
    few = rows.count()
    assert 0 < few < everything / 10
    assert "FluxKontextPipeline" in page.locator(".md-typeset").first.inner_text()
    assert page.locator(".table-count").inner_text().endswith(" of 144")
    field.fill("")
    assert rows.count() == everything


def test_each_public_name_has_its_signature_and_example(page):
    for room, name in (
        ("alignvid", "alignvid.attachment.attach.attach"),
        ("alignvid", "alignvid.schedule.StepWindow"),
        ("alignvid.models", "alignvid.models.family.Family"),
    ):
        page.goto(f"/api/{room}.html")
        assert page.locator(f'[id="{name}"]').count() == 1, name
    page.goto("/api/alignvid.html")
    text = page.locator(".md-content").inner_text()
    assert "attach(" in text and "Examples" in text and ">>>" in text
