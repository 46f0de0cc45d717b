"""`python -m alignvid.cli` is `alignvid`, also where the script is not on the path."""

from alignvid.cli import main

main()
