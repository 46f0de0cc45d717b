"""`python -m alignvid` is `alignvid`."""

import sys

from alignvid.errors import MissingExtra


def main() -> None:
    """Run the command line; where its packages are not installed, say so in one sentence and exit with 2."""
    try:
        from alignvid.cli import main as run
    except MissingExtra as error:
        print(f"alignvid: {error}", file=sys.stderr)
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
