"""A command on a real terminal of some width."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios


def on_terminal(*arguments, columns=80, rows=24, cwd=None, typed=""):
    """Exit code, and what the command writes, without colours; stdout and stderr are the terminal.

    What is typed is there before it is asked for.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "alignvid", *(str(argument) for argument in arguments)]
    process = subprocess.Popen(
        command, stdout=its, stderr=its, stdin=its, env={**environment, "TERM": "xterm"}, cwd=cwd
    )
    os.close(its)
    os.write(ours, typed.encode())
    said = b""
    try:
        while piece := os.read(ours, 65536):
            said += piece
    except OSError:  # on Linux, the end
        pass
    finally:
        os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    return process.wait(timeout=120), text.replace("\r\n", "\n")
