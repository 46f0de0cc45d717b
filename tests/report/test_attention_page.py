import json
import re
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from alignvid.analysis.trace import Trace
from alignvid.cli import main
from alignvid.errors import PictureError
from alignvid.files import sha256_of_file
from alignvid.generate.record import read_record
from alignvid.media.videos import read_video, write_video
from alignvid.plots import mean_map
from alignvid.report.attention import ATTENTION_PAGE, write_attention_page, write_word_page
from alignvid.report.rows import comparison_files
from chromium import CHROMIUM, FLAGS, Links, needs_chromium

ROLES = ("baseline", "alignvid")
PANELS = 4 * 3 + 3 * 2
"""Entropy of cross text, cross image and self in four ways; the shares of the two in cross-attention in three."""


class Pictures(HTMLParser):
    """Images, videos and drawings, with the text for who cannot see them."""

    def __init__(self):
        super().__init__()
        self.texts = {"img": [], "video": [], "svg": []}

    def handle_starttag(self, tag, attrs):
        if tag in self.texts:
            given = dict(attrs)
            self.texts[tag].append(given.get("alt") or given.get("aria-label"))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def inspect(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["inspect", "--run", str(folder)])
    captured = capsys.readouterr()
    return ended.value.code or 0, captured.out, captured.err


def test_inspect_makes_one_page_beside_the_videos(run, capsys):
    before = contents(run)
    code, out, err = inspect(run, capsys)
    assert (code, out, err) == (0, f"Open {run / ATTENTION_PAGE}\n", "")
    made = set(contents(run)) - set(before)
    assert made == {ATTENTION_PAGE, "attention-1-baseline.mp4", "attention-1-alignvid.mp4"}
    assert {name: contents(run)[name] for name in before} == before


def test_a_word_has_a_page_of_its_own_with_its_videos_alone(run):
    before = set(contents(run))
    page = write_word_page(run, "cat")
    assert set(contents(run)) - before == {page.name, "attention-1-baseline.mp4", "attention-1-alignvid.mp4"}
    links = Links()
    links.feed(page.read_text(encoding="utf-8"))
    assert [link for link in links.found if link.endswith(".mp4")] == [f"attention-1-{role}.mp4" for role in ROLES]
    with pytest.raises(PictureError, match="There is no map of 'dog'; there is cat"):
        write_word_page(run, "dog")


def test_the_page_shows_videos_maps_and_plots_and_describes_each(inspected_run):
    found = Pictures()
    found.feed((inspected_run / ATTENTION_PAGE).read_text())
    assert found.texts["video"] == ["baseline", "AlignVid", "“cat”, baseline", "“cat”, AlignVid"]
    assert found.texts["img"] == ["reference"]
    assert len(found.texts["svg"]) == PANELS and all(text and "n\u00a0=\u00a01" in text for text in found.texts["svg"])


def test_the_page_begins_with_what_the_word_gets(inspected_run):
    page = (inspected_run / ATTENTION_PAGE).read_text()
    shares = [100 * mean_map(Trace.load(inspected_run / f"{role}.trace").maps, "cat").mean() for role in ROLES]
    label, value = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)[0]
    assert label == "attention on “cat”"
    assert value == " → ".join(f"{share:.1f} %" for share in shares)


def test_the_page_and_that_of_the_comparison_lead_to_each_other(run):
    (run / "index.html").write_bytes(comparison_files(read_record(run))["index.html"])
    assert 'href="index.html"' in write_attention_page(run).read_text()
    assert 'href="attention.html"' in (run / "index.html").read_text()


@pytest.mark.slow
def test_a_page_of_the_users_own_stays_as_it_is(run):
    (run / "index.html").write_text("mine")
    assert 'href="index.html"' not in write_attention_page(run).read_text()
    assert (run / "index.html").read_text() == "mine"


def test_the_page_opens_nothing_outside_its_folder(inspected_run):
    links = Links()
    links.feed((inspected_run / ATTENTION_PAGE).read_text())
    for link in links.found:
        assert re.fullmatch(r"data:,|#[\w-]+", link) or (inspected_run / link).is_file()


def test_no_text_of_the_prompt_becomes_markup(inspected_run):
    page = (inspected_run / ATTENTION_PAGE).read_text()
    assert "<b>sunglasses" not in page and "&lt;b&gt;sunglasses" in page


def test_maps_are_laid_over_the_runs_own_frames(inspected_run):
    assert read_video(inspected_run / "attention-1-baseline.mp4").frames.shape[0] == 5


@pytest.mark.slow
def test_the_page_is_the_same_every_time(run, inspected_run):
    assert write_attention_page(run).read_bytes() == (inspected_run / ATTENTION_PAGE).read_bytes()


def changed_trace(run, change):
    """A trace that was written like this by the run itself: the record knows its digest."""
    change(Trace.load(run / "alignvid.trace")).save(run / "alignvid.trace")
    record = json.loads((run / "record.json").read_text())
    record["traces"]["alignvid"]["sha256"] = sha256_of_file(run / "alignvid.trace")
    (run / "record.json").write_text(json.dumps(record))


def record_says(traces):
    def change(run):
        record = json.loads((run / "record.json").read_text())
        (run / "record.json").write_text(json.dumps(record | {"traces": traces}))

    return change


def of_another_model(trace):
    models = {host: model | {"config_sha256": "ab" * 32} for host, model in trace.origin["models"].items()}
    return Trace({**trace.origin, "models": models}, trace.facts, trace.maps)


def with_nan(trace):
    return Trace(trace.origin, [trace.facts[0]._replace(values=(float("nan"),)), *trace.facts[1:]], trace.maps)


def with_nan_in_its_map(trace):
    weights = np.full_like(trace.maps[0].weights, np.nan)
    return Trace(trace.origin, trace.facts, [trace.maps[0]._replace(weights=weights)])


def truncate(run):
    path = run / "alignvid.trace"
    path.write_bytes(path.read_bytes()[:1000])


NO_VIDEO = {"models": {}, "sha256": "", "file": "best.trace", "words": []}
BAD_RUNS = {
    "no record": (lambda run: (run / "record.json").unlink(), "cannot be read as a record"),
    "record of nothing": (lambda run: (run / "record.json").write_text("[]"), "holds no record"),
    "traces not described": (record_says({"alignvid": {}}), "'traces.alignvid' lacks the field 'file'"),
    "traces of no video": (record_says({"best": NO_VIDEO}), "that it does not describe"),
    "not observed": (record_says({}), "was not observed; make it again with `alignvid generate --record"),
    "trace missing": (lambda run: (run / "alignvid.trace").unlink(), "There is no trace"),
    "trace cut short": (truncate, "is cut short or is no trace"),
    "trace of another run": (
        lambda run: shutil.copy(run / "baseline.trace", run / "alignvid.trace"),
        "is not the one of the record",
    ),
    "trace of another model": (
        lambda run: of_another_model(Trace.load(run / "alignvid.trace")).save(run / "alignvid.trace"),
        "is of another model (WanTransformer3DModel abababab) than the record's",
    ),
    "trace with nothing in it": (
        lambda run: changed_trace(run, lambda trace: Trace(trace.origin, [], trace.maps)),
        "holds nothing to draw",
    ),
    "NaN in a trace": (lambda run: changed_trace(run, with_nan), "has NaN or infinity"),
    "NaN in a map": (lambda run: changed_trace(run, with_nan_in_its_map), "is empty or has NaN or infinity"),
    "video missing": (lambda run: (run / "baseline.mp4").unlink(), "cannot be read"),
    "frames of another length": (
        lambda run: write_video(run / "baseline.mp4", np.zeros((1, 32, 32, 3), np.uint8), 8),
        "A map of 2 latent frames does not fit 1 frames"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_RUNS)
def test_a_bad_run_is_one_sentence_and_nothing_is_lost(run, capsys, case):
    damage, message = BAD_RUNS[case]
    damage(run)
    before = contents(run)
    code, out, err = inspect(run, capsys)
    assert (code, out) == (2, "")
    assert message in err and err.startswith("alignvid: ") and err.count("\n") == 1
    assert contents(run) == before


def test_without_matplotlib_inspect_says_what_to_install(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = inspect(run, capsys)
    assert code == 2 and 'pip install "alignvid[plots]"' in err
    assert ATTENTION_PAGE not in contents(run)


PLAYING = "() => [...document.querySelectorAll('.time')].every(time => parseFloat(time.textContent) > 0)"


def browse(page, log, until="() => true"):
    """The page's content once a condition of it holds; Chromium's log of the network is left behind."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, f"--log-net-log={log}"])
        opened = browser.new_page(viewport={"width": 1280, "height": 6000})
        opened.goto(page.as_uri())
        opened.wait_for_function(until, timeout=60_000)
        content = opened.content()
        browser.close()
    return content


def requested(log):
    """What the page asked of the network, by Chromium's own log; its own requests have no origin."""
    events = [line for line in log.read_text().splitlines() if '"initiator":"not an origin"' not in line]
    return {url for event in events for url in re.findall(r'"initiator".*"url":"((?:http|ws)[^"]+)"', event)}


@pytest.mark.browser
@needs_chromium
def test_a_browser_plays_the_page_and_asks_the_network_for_nothing(inspected_run, tmp_path):
    page, log = inspected_run / ATTENTION_PAGE, tmp_path / "net.json"
    dom = browse(page, log, until=PLAYING)
    assert len(re.findall(r'class="time">([\d.]+) s<', dom)) == 2  # videos and maps play without a click
    assert dom.count('role="img"') == PANELS
    assert not requested(log)


@pytest.mark.slow
@pytest.mark.browser
@needs_chromium
def test_the_log_of_the_network_would_show_a_request(tmp_path):
    page, log = tmp_path / "page.html", tmp_path / "net.json"
    page.write_text('<img src="http://127.0.0.1:9/a.png">')
    browse(page, log)
    assert requested(log) == {"http://127.0.0.1:9/a.png"}
