"""Pictures and clips, read, checked and written."""

from alignvid.extras import require

require("generate", "Reading and writing pictures", "numpy", "PIL", "av")
