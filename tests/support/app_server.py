"""The page as the command serves it, in a process of its own, for tests that call it or open it in a browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager


@contextmanager
def served(folder, token, *options, env=os.environ):
    """Answers inside the block; gives its address. Not in this process: Gradio must see generators, and the checker of
    signatures, which the tests switch on, hides them."""
    command = [sys.executable, "-m", "alignvid", "app", "--out", str(folder), "--port", "0", *options]
    env = dict(env) | {"ALIGNVID_TOKEN": token, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as running:
        try:
            yield re.fullmatch(r"Open (http://127\.0\.0\.1:\d+/)\n", running.stdout.readline())[1]
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(60)
