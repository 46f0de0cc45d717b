"""Pictures of what attention does: figures made from traces, and attention maps laid over frames.

    from alignvid.plots import change, heat_maps, lines, save_figure
    figure = lines({"baseline": [before], "AlignVid": [after]}, "entropy", along="block")
    save_figure(figure, "out/entropy")        # out/entropy.svg and out/entropy.png

Needs the extra `plots` (matplotlib), and no torch.
"""

from alignvid.extras import require

require("plots", "Drawing", "numpy", "PIL")

from alignvid.plots.attention import Runs, change, heat_maps, lines
from alignvid.plots.overlay import mean_map, overlaid
from alignvid.plots.rates import ratio_bars, sweep_curve
from alignvid.plots.saving import inline_svg, png_bytes, save_figure, svg_bytes

__all__ = [
    "Runs",
    "change",
    "heat_maps",
    "inline_svg",
    "lines",
    "mean_map",
    "overlaid",
    "png_bytes",
    "ratio_bars",
    "save_figure",
    "svg_bytes",
    "sweep_curve",
]
