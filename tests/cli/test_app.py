"""`alignvid app`: what is wrong with where it answers is said before anything is loaded, with exit code 2."""

import socket

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
