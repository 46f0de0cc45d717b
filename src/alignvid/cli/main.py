"""The group of all commands, and what happens to errors: one sentence on stderr, exit code 2, no traceback."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

import click
from click.exceptions import NoArgsIsHelpError

from alignvid import __version__
from alignvid.cli.app import app
from alignvid.cli.bench import bench
from alignvid.cli.calibrate import calibrate
from alignvid.cli.generate import demo, generate
from alignvid.cli.lists import models, presets
from alignvid.cli.look import doctor, inspect
from alignvid.cli.terminal import examples, give_up_stdout, ready_streams, say
from alignvid.cli.trial import trial
from alignvid.cli.values import check_values
from alignvid.errors import AlignvidError, is_interrupt
from alignvid.extras import needs

_BAD_INPUT = 2
_INTERRUPTED = 130  # 128 + SIGINT, as shells count
_STDOUT_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_INTERRUPT = "Interrupted; nothing unfinished was kept."


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "alignvid demo --out demo",
        'alignvid generate --image examples/scene-3.png --prompt "remove the yellow square" --out out',
    ),
)
@click.version_option(__version__, prog_name="alignvid")
def cli() -> None:
    """Make a diffusers video or image pipeline follow its prompt (AlignVid, arXiv 2512.01334)."""


for command in (generate, demo, app, calibrate, bench, trial, presets, models, inspect, doctor):
    cli.add_command(command)
check_values(cli)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    if closed := ready_streams():
        sys.exit(_say(closed, _BAD_INPUT))
    try:
        code = cli.main(
            args=None if arguments is None else list(arguments), prog_name="alignvid", standalone_mode=False
        )
        sys.stdout.flush()
    except NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = 0
    except click.ClickException as error:
        code = _say(_with_help(error), _BAD_INPUT)
    except (KeyboardInterrupt, click.Abort) as error:  # click turns the first into the second
        code = _say(str(error.__cause__ or error) or _INTERRUPT, _INTERRUPTED)
    except Exception as error:
        if is_interrupt(error):
            code = _say(_INTERRUPT, _INTERRUPTED)
        elif isinstance(error, AlignvidError):
            code = _say(str(error), _BAD_INPUT)
        elif isinstance(error, OSError) and error.filename is None and error.errno in _STDOUT_IS_FULL:
            code = _say(f"The result cannot be printed: {error.strerror}; what was made is kept.", _BAD_INPUT)
            give_up_stdout()
        elif isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("alignvid"):
            code = _say(needs("generate", "This command", error.name.partition(".")[0]), _BAD_INPUT)
        else:
            raise
    sys.exit(code)


def _with_help(error: click.ClickException) -> str:
    """The message; where click says only what is wrong, with the line that shows what there is."""
    message = error.format_message()
    if not isinstance(error, click.UsageError) or error.ctx is None or not _says_no_remedy(error):
        return message
    return f"{message.rstrip('.')}; `{error.ctx.command_path} --help` shows what there is."


def _says_no_remedy(error: click.UsageError) -> bool:
    is_unknown = error.message.startswith(("No such", "Got unexpected extra argument"))
    return is_unknown or isinstance(error, click.MissingParameter)


def _say(message: str, code: int) -> int:
    say(f"alignvid: {' '.join(message.split())}")
    return code
