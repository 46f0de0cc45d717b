"""`python -m alignvid` is `alignvid`."""

from alignvid.cli import main

main()
