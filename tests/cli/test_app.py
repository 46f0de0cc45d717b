"""`alignvid app`: it answers, and what is wrong with where it would is said before anything is loaded."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "0.0.0.0"), "open to other machines, and no token is asked for"),
        (("--token", "short"), "give at least 16"),
        (("--port", "70000"), "Port 70000 is out of range"),
    ],
)
def test_a_door_that_cannot_be_is_refused(alignvid, tmp_path, arguments, said):
    code, out, err = alignvid("app", "--out", tmp_path / "runs", *arguments)
    assert (code, out) == (2, "") and said in err and "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_a_port_that_is_taken_is_said(alignvid, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = alignvid("app", "--out", tmp_path / "runs", "--port", port)
    assert code == 2 and f"Port {port} is taken; choose another with --port, or 0" in err


def test_the_page_answers_before_a_model_library_is_read(tmp_path):
    command = ["-X", "importtime", "-m", "alignvid", "app", "--out", str(tmp_path / "runs"), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}  # one pipe: lines in their order
    with subprocess.Popen([sys.executable, *command], **pipes) as running:
        before = []
        for line in running.stdout or ():
            if line.startswith("Open "):
                break
            before.append(line.rpartition("|")[2].strip())
        running.kill()
    assert "gradio" in before and "alignvid.app.server" in before  # else nothing was read at all
    assert not {"torch", "diffusers", "transformers", "accelerate"} & set(before)


@pytest.mark.slow
def test_the_page_answers_before_the_model_is_there_and_ctrl_c_ends_it_in_a_sentence(tmp_path):
    command = [sys.executable, "-m", "alignvid", "app", "--out", str(tmp_path / "runs"), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, env=os.environ | {"OMP_NUM_THREADS": "1"}) as running:
        url = re.fullmatch(r"Open (http://127\.0\.0\.1:\d+/)\n", running.stdout.readline())[1]
        with urllib.request.urlopen(url) as answer:
            page = answer.read()
            assert answer.status == 200 and b'"title":"alignvid"' in page.replace(b": ", b":")
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (130, "")
    assert "Interrupted" in err and "Traceback" not in err
