import pytest

from alignvid.errors import OutputError, PictureError
from alignvid.plots import ratio_bars, save_figure, sweep_curve

RATIOS = {0: (0.7, 0.6, 0.8), 1: (0.5, 0.4, 0.55), 3: (0.2, 0.1, 0.35)}


def test_blocks_above_tau_are_filled_and_the_others_hatched():
    (axes,) = ratio_bars(RATIOS, tau=0.5, n=50).axes
    kept, left_out = axes.containers[:2]
    assert [round(bar.get_center()[0]) for bar in kept] == [0]  # 0.5 is not above 0.5
    assert [round(bar.get_center()[0]) for bar in left_out] == [1, 3]
    assert {bar.get_hatch() for bar in left_out} == {"////"}


def test_bars_have_their_intervals():
    (axes,) = ratio_bars(RATIOS, tau=0.5, n=50).axes
    segments = axes.collections[0].get_segments()
    assert [sorted(segment[:, 1]) for segment in segments] == [pytest.approx(RATIOS[block][1:]) for block in RATIOS]


def test_the_caption_of_the_bars_has_n_and_the_label_has_tau():
    figure = ratio_bars(RATIOS, tau=0.5, n=50)
    assert "n = 50 pairs" in figure.get_label()
    assert "τ = 0.5" in {text.get_text() for legend in figure.legends for text in legend.get_texts()}


def test_all_blocks_may_be_on_one_side_of_tau():
    assert ratio_bars({0: (0.7, 0.6, 0.8)}, tau=0.5, n=50).legends[0].get_texts()[0].get_text() == "kept: 1"


def test_a_sweep_has_a_point_and_an_interval_for_each_gamma():
    figure = sweep_curve({"edit shown": {2.5: (0.7, 0.6, 0.8), 1.0: (0.2, 0.1, 0.3)}}, what="share of clips", n=40)
    (axes,) = figure.axes
    (curve,) = (line for line in axes.lines if line.get_label() == "edit shown")
    assert curve.get_xydata().tolist() == [[1.0, 0.2], [2.5, 0.7]]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2.5"]
    assert "n = 40 at each γ" in figure.get_label()


@pytest.mark.parametrize(
    ("estimate", "message"),
    [((0.5, 0.6, 0.7), "block 2 is 0.5"), ((float("nan"), 0, 1), "is nan"), ((0.5, 0.4, float("inf")), "inf")],
)
def test_a_number_outside_its_interval_or_not_finite_is_refused(estimate, message):
    with pytest.raises(PictureError, match=message):
        ratio_bars({2: estimate}, tau=0.5, n=50)


def test_nothing_is_not_drawn():
    with pytest.raises(PictureError, match="There is no number to draw"):
        ratio_bars({}, tau=0.5, n=50)


def test_a_gamma_of_zero_is_refused():
    with pytest.raises(PictureError, match="γ is 0 in a sweep; a gain is above 0"):
        sweep_curve({"edit shown": {0.0: (0.2, 0.1, 0.3)}}, what="share of clips", n=40)


def test_both_files_are_written_or_none(tmp_path):
    (tmp_path / "figure.png").mkdir()  # cannot be replaced by a file
    with pytest.raises(OutputError):
        save_figure(ratio_bars(RATIOS, tau=0.5, n=50), tmp_path / "no folder" / "figure")
    svg, png = save_figure(ratio_bars(RATIOS, tau=0.5, n=50), tmp_path / "bars")
    assert svg.read_bytes().startswith(b"<?xml") and png.read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"figure.png", "bars.svg", "bars.png"}
