"""What a cache keeps of earlier forwards must not carry a gain over a window's edge.

A cache leaves out work by using what an earlier forward computed. Where that forward was modulated and the running one
is not, or the other way round, what it keeps is of the wrong kind. So the cache forgets it there, and the next forward
computes everything. Nothing else is touched: within the window and outside it the cache works as ever.

One file per library. Each is recognised by what it leaves on the transformer, so none of them need be installed. A
family brings its own as `forget`. A cache that is none of these is noticed by the blocks that it skips (skips.py).
"""

from alignvid.host.caches.cache import Samples
from alignvid.host.caches.edges import EdgeWatch
from alignvid.host.caches.skips import SkipWatch

__all__ = ["EdgeWatch", "Samples", "SkipWatch"]
