import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import made_traces
from alignvid.analysis.trace import Trace
from alignvid.errors import MissingExtra, PictureError
from alignvid.plots import change, heat_maps, inline_svg, lines, png_bytes, save_figure, svg_bytes
from alignvid.plots.style import PENS
from made_traces import made_fact, made_trace

RUNS = {"baseline": [made_trace()], "AlignVid": [made_trace(-0.5)]}
FEW = {label: [Trace({}, [made_fact(shift, block=b) for b in (0, 1)])] for label, shift in (("a", 0.0), ("b", 1.0))}
FIGURES = {
    "lines": lambda runs: lines(runs, "entropy", along="block"),
    "heat maps": lambda runs: heat_maps(runs, "entropy"),
    "change": lambda runs: change(runs, "entropy", along="step"),
}


def curves(figure):
    return {
        line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines if line.get_marker() != "None"
    }


def test_a_curve_is_the_mean_over_the_other_axis():
    found = curves(lines(RUNS, "entropy", along="block"))
    expected = [[block, pytest.approx(block + 0.15)] for block in range(3)]  # steps 0 to 3, 0.1 apart
    assert found["baseline"] == expected


def test_the_band_of_one_sample_is_its_range():
    figure = lines({"baseline": [made_trace()]}, "entropy", along="block")
    edge = figure.axes[0].collections[0].get_paths()[0].vertices
    at_block_1 = edge[edge[:, 0] == 1][:, 1]
    assert (at_block_1.min(), at_block_1.max()) == pytest.approx((1.0, 1.3))
    assert "from the smallest to the largest over steps" in figure.get_label()


def test_the_band_of_several_samples_is_a_bootstrap_over_them():
    figure = lines({"baseline": [made_trace(shift) for shift in (0.0, 0.2, 0.4, 0.6)]}, "entropy", along="block")
    edge = figure.axes[0].collections[0].get_paths()[0].vertices
    at_block_1 = edge[edge[:, 0] == 1][:, 1]
    assert 1.15 < at_block_1.min() < 1.45 < at_block_1.max() < 1.75  # inside the samples' own range
    assert "95 % bootstrap intervals over samples" in figure.get_label()


def test_a_change_is_paired():
    figure = change(
        {"baseline": [made_trace(0.0), made_trace(5.0)], "AlignVid": [made_trace(-1.0), made_trace(4.0)]},
        "entropy",
        along="block",
    )
    assert curves(figure)["AlignVid"] == [[block, pytest.approx(-1.0)] for block in range(3)]
    edge = figure.axes[0].collections[0].get_paths()[0].vertices
    assert edge[:, 1] == pytest.approx(-1.0)  # the samples differ, their changes do not


def test_heat_maps_of_one_attention_share_a_scale_and_show_blocks_by_steps():
    figure = heat_maps(RUNS, "entropy")
    maps = [axes.images[0] for axes in figure.axes if axes.images]
    assert [image.get_array().shape for image in maps] == [(3, 4)] * 6
    assert all(image.get_clim() == pytest.approx((-0.5, 2.3)) for image in maps)


def test_what_was_not_recorded_stays_blank_in_a_heat_map():
    trace = Trace({}, [made_fact(1.0), made_fact(2.0, block=1, step=1)])
    (image,) = (axes.images[0] for axes in heat_maps({"baseline": [trace]}, "entropy").axes if axes.images)
    assert np.ma.getmaskarray(image.get_array()).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("figure", FIGURES)
def test_a_caption_says_what_and_how_many(figure):
    caption = FIGURES[figure](RUNS).get_label()
    assert "attention entropy in nats" in caption.lower()
    assert "n\u00a0=\u00a01 " in caption


@pytest.mark.parametrize("figure", FIGURES)
def test_axes_have_names_and_units(figure):
    labels = {text for axes in FIGURES[figure](RUNS).axes for text in (axes.get_xlabel(), axes.get_ylabel())}
    assert any("nats" in label for label in labels)
    assert any(label.startswith(("block", "denoising step")) for label in labels)


def test_curves_are_told_apart_without_colour():
    for one, other in itertools.combinations(PENS, 2):
        assert one.dash != other.dash and one.marker != other.marker


@pytest.mark.parametrize("figure", ["heat maps", "change"])
def test_the_same_traces_give_the_same_bytes_whatever_the_users_settings(figure):
    import matplotlib

    first = FIGURES[figure](FEW)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        second = FIGURES[figure](FEW)
        assert (svg_bytes(first), png_bytes(first)) == (svg_bytes(second), png_bytes(second))


@pytest.mark.slow
def test_another_process_writes_the_same_files(tmp_path):
    save_figure(lines(RUNS, "entropy", along="block"), tmp_path / "here")
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from made_traces import made_trace\n"
        "from alignvid.plots import lines, save_figure\n"
        "runs = {'baseline': [made_trace()], 'AlignVid': [made_trace(-0.5)]}\n"
        "save_figure(lines(runs, 'entropy', along='block'), sys.argv[1])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "there"), str(Path(made_traces.__file__).parent)], check=True
    )
    for suffix in ("svg", "png"):
        assert (tmp_path / f"here.{suffix}").read_bytes() == (tmp_path / f"there.{suffix}").read_bytes()


def test_text_stays_text_and_no_date_is_written():
    picture = svg_bytes(lines(RUNS, "entropy", along="block")).decode()
    assert ">attention entropy (nats)</text>" in picture
    assert "dc:date" not in picture


def test_two_figures_on_a_page_share_no_name():
    names = [
        set(re.findall(r'\bid="([^"]+)"', inline_svg(lines(FEW, "entropy", along=axis), f"along-{axis}")))
        for axis in ("block", "step")
    ]
    assert names[0] and not names[0] & names[1]
    picture = inline_svg(heat_maps(FEW, "entropy"), "map")
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', picture)) <= set(re.findall(r'\bid="([^"]+)"', picture))
    assert picture.startswith('<svg role="img" aria-label="Attention entropy')


def test_two_transformers_have_panels_of_their_own():
    facts = made_trace().facts
    trace = Trace({}, [*facts, *(fact._replace(host="transformer_2") for fact in facts)])
    titles = {axes.get_title(loc="left") for axes in lines({"baseline": [trace]}, "entropy", along="block").axes}
    assert "transformer_2 · cross: video → text" in titles and len(titles) == 6


@pytest.mark.parametrize(
    ("runs", "measure", "message"),
    [
        ({}, "entropy", "There is no trace to draw; give at least one"),
        ({"baseline": []}, "entropy", "There is no trace to draw"),
        ({"baseline": [Trace({})]}, "entropy", "'baseline' holds nothing to draw; observe a run again"),
        ({"baseline": [Trace({}, problems=["NaN here"])]}, "entropy", r"first problem: NaN here"),
        ({"baseline": [made_trace()]}, "mass", "no 'mass' of video queries in common; they have entropy, pooled_mass"),
        ({"baseline": [Trace({}, [made_fact(float("nan"), block=2)])]}, "entropy", "as entropy of block 2 at step 0"),
        ({"baseline": [Trace({}, [made_fact(float("inf"))])]}, "entropy", "has NaN or infinity"),
        ({"baseline": [Trace({}, [made_fact(1.0)._replace(values=())])]}, "entropy", "has NaN or infinity"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_one_sentence(runs, measure, message):
    with pytest.raises(PictureError, match=message):
        lines(runs, measure, along="block")


def test_runs_of_other_blocks_are_not_subtracted():
    with pytest.raises(PictureError, match="differ in samples, blocks or steps; observe the same ones"):
        change({"baseline": [made_trace()], "AlignVid": [made_trace(blocks=2)]}, "entropy", along="block")


def test_without_matplotlib_the_pip_line_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r'pip install "alignvid\[plots\]"'):
        lines(RUNS, "entropy", along="block")
