"""Every tiny pipeline that the tests of families run, by name."""

from __future__ import annotations

import image_pipelines
import pipelines
import video_pipelines

BUILDERS = {**pipelines.BUILDERS, **image_pipelines.BUILDERS, **video_pipelines.BUILDERS}
