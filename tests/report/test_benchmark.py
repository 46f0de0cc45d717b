import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from alignvid.bench.run_folder import RunFolder
from alignvid.bench.scoring.judged_run import Asked
from alignvid.bench.scoring.scorecard import score_run
from alignvid.bench.verdicts import Verdict
from alignvid.errors import InputError, MissingExtra, OutputError
from alignvid.files import sha256_of_bytes
from alignvid.report.benchmark import write_report
from alignvid.report.gallery import gallery_script
from alignvid.report.plots import plots
from judged_folders import moving_square, sample_of, write_run, wrong


class Links(HTMLParser):
    """Every address that the page would open, and the ids that it has."""

    def __init__(self):
        super().__init__()
        self.found, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "xlink:href", "poster", "action")]
        self.ids += [value for name, value in attrs if name == "id"]


def decide(sample, variant, seed, question):
    is_wrong = variant == "baseline" and sample.id in ("sample_1", "sample_2")
    return wrong(question) if is_wrong else Verdict(question.expected_answer)


def card_of(run):
    return score_run(run, Asked(), {})


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A run and its scores, made once."""
    samples = [sample_of(n) for n in range(6)]
    metrics = {"aesthetic_quality": lambda sample, variant, seed: 0.5 + len(variant) / 100}
    run = write_run(
        tmp_path_factory.mktemp("scored") / "run", samples, decide=decide, clip=moving_square(4), metrics=metrics
    )
    return run, card_of(run)


@pytest.fixture
def run(scored, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(scored[0].path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture
def card(scored):
    return scored[1]


def report_of(run, card):
    return write_report(run.path, run.path / "report", card).page


def test_the_folder_holds_all_that_the_page_names(run, card):
    page = report_of(run, card)
    links = Links()
    links.feed(page.read_text())
    for link in links.found:
        assert link.startswith(("data:", "#")) or (page.parent / link).is_file(), link
    assert len(list((page.parent / "videos").glob("*.mp4"))) == 12
    assert len(list((page.parent / "images").glob("*.png"))) == 6
    for name in ("scores.json", "scores.csv", "scores.md", "gallery.js"):
        assert (page.parent / name).is_file()


def test_ids_in_the_page_are_unique(run, card):
    links = Links()
    links.feed(report_of(run, card).read_text())
    assert sorted(links.ids) == sorted(set(links.ids))


def test_the_same_records_give_the_same_page(run, card):
    page = report_of(run, card)
    first = page.read_bytes()
    assert report_of(run, card).read_bytes() == first


def test_videos_take_no_second_place_on_the_disk(run, card):
    page = report_of(run, card)
    video = next((page.parent / "videos").glob("*.mp4"))
    assert video.samefile(run.path / "videos" / video.name)


def test_a_video_that_was_made_anew_replaces_the_one_in_the_report(run, card):
    page = report_of(run, card)
    anew = moving_square(8)
    record = replace(run.videos()[0], sha256=sha256_of_bytes(anew))
    run.write_video(record, anew)
    report_of(run, card_of(run))
    assert (page.parent / record.file).read_bytes() == anew
    assert list(page.parent.rglob("*.part")) == []


def test_a_damaged_video_is_named_and_not_shown_until_it_is_whole_again(run, card):
    report_of(run, card)
    record = run.videos()[0]
    video = run.path / record.file
    whole = video.read_bytes()
    video.write_bytes(whole[:-100] + b"\0" * 100)  # in place: the first report's link has the damage, too

    page, damaged = write_report(run.path, run.path / "report", card)

    assert damaged == [record]
    name = f"{record.sample}, {record.variant}, seed {record.seed}"
    assert f"Damaged files of videos: 1 ({name})." in page.read_text()
    assert not (page.parent / record.file).exists()
    gallery = (page.parent / "gallery.js").read_text()
    assert gallery.count("damaged: the file is not the video that was judged") == 1
    assert record.job not in gallery
    assert (page.parent / "scores.json").read_bytes() == card.to_json()

    video.write_bytes(whole)
    page, damaged = write_report(run.path, run.path / "report", card)
    assert damaged == []
    assert "Damaged" not in page.read_text()
    assert (page.parent / record.file).read_bytes() == whole


def test_a_disk_without_links_gets_copies(run, card, monkeypatch):
    def refuse(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    page = report_of(run, card)
    video = next((page.parent / "videos").glob("*.mp4"))
    assert not video.samefile(run.path / "videos" / video.name)
    assert video.read_bytes() == (run.path / "videos" / video.name).read_bytes()


def test_a_video_that_is_gone_is_named_and_the_old_page_stays(run, card):
    page = report_of(run, card)
    before = page.read_bytes()
    video = next((run.path / "videos").glob("*.mp4"))
    video.unlink()
    with pytest.raises(InputError, match=f"{video.name}' is gone"):
        report_of(run, card)
    assert page.read_bytes() == before


@pytest.mark.parametrize("damage", [{"image_path": "../../secret.png"}, {"image_path": "/etc/passwd"}, {"id": "../x"}])
def test_a_path_that_leaves_the_run_is_refused(run, card, damage):
    samples = (replace(card.run.samples[0], **damage), *card.run.samples[1:])
    with pytest.raises(InputError, match="outside the run's folder"):
        write_report(run.path, run.path / "report", replace(card, run=replace(card.run, samples=samples)))


def test_a_folder_that_cannot_be_written_is_refused(run, card, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write into"):
        write_report(run.path, tmp_path / "file" / "report", card)


def test_without_matplotlib_the_line_that_installs_it_is_said(run, card, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r'pip install "alignvid\[plots\]"'):
        write_report(run.path, run.path / "report", card)
    assert not (run.path / "report").exists()


def test_plots_show_gains_and_what_is_traded_and_names_are_text(tmp_path):
    samples = [sample_of(n, categories=("$x$ <b>", "rest")) for n in range(6)]
    metrics = {"aesthetic_quality": lambda sample, variant, seed: 0.5 + len(sample.id + variant) / 100}
    run = write_run(tmp_path / "run", samples, variants=("baseline", "a$b$"), decide=decide, metrics=metrics)
    drawn = plots(card_of(run))
    assert [plot.name for plot in drawn] == ["accuracy", "gains", "categories", "aesthetic_quality-native-11111111"]
    assert "a$b$" in drawn[1].svg
    assert "$x$ &lt;b&gt;" in drawn[1].svg
    assert "<b>" not in "".join(plot.svg for plot in drawn)


def test_a_single_variant_without_metrics_has_a_report_too(tmp_path):
    run = write_run(tmp_path / "run", [sample_of(0)], variants=("baseline",), clip=moving_square(4))
    assert "Gains over" not in report_of(run, card_of(run)).read_text()


def test_text_of_the_data_is_escaped_in_the_page_and_no_markup_in_the_script(tmp_path):
    attack = '</script><script>alert(1)</script>"'
    run = write_run(tmp_path / "run", [sample_of(0, prompt=attack, categories=(attack, "rest"))], clip=moving_square(4))
    html = report_of(run, card_of(run)).read_text()
    assert "alert(1)</script>" not in html
    assert html.count("<script") == 2
    data = gallery_script(card_of(run).run).decode()
    assert re.search(r'"prompt":"</script><script>alert\(1\)</script>\\""', data)  # a file of its own: no HTML is read
