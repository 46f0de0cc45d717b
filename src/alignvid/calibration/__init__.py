"""Which blocks of a model look at the foreground: from image-prompt pairs to a preset file.

docs/calibration.md says what is measured, and why so.
"""

from alignvid.extras import require

require("calibrate", "Calibrating", "diffusers", "numpy", "PIL", "tqdm")

from alignvid.calibration.foreground import SOURCES
from alignvid.calibration.run import Calibration, calibrate

__all__ = ["SOURCES", "Calibration", "calibrate"]
