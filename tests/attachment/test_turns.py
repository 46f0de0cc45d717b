"""Forwards in several threads: at the same time, or one after the other where that must be."""

from __future__ import annotations

import threading

from alignvid.attachment.turns import Turns

SECONDS = 10  # until a test that hangs fails


def test_a_thread_by_itself_never_asks_whether_it_must_be_alone():
    turns, asked = Turns(), []
    turns.begin(lambda: asked.append("outer") is None)
    turns.begin(lambda: asked.append("within") is None)
    turns.end()
    turns.end()
    turns.begin(lambda: asked.append("again") is None)
    assert asked == []


def in_another_thread(turns: Turns, *, must_be_alone: bool) -> tuple[threading.Thread, threading.Event]:
    """A thread that begins a forward and ends it at once, and the event that it has begun."""
    begun = threading.Event()

    def run() -> None:
        turns.begin(lambda: must_be_alone)
        begun.set()
        turns.end()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, begun


def test_forwards_that_need_not_be_alone_run_at_the_same_time():
    turns = Turns()
    turns.begin(lambda: False)
    thread, begun = in_another_thread(turns, must_be_alone=False)
    assert begun.wait(SECONDS)
    turns.end()
    thread.join(SECONDS)


def test_one_that_must_be_alone_waits_for_all_that_a_thread_has_begun():
    turns = Turns()
    turns.begin(lambda: False)
    turns.begin(lambda: True)  # within the first: it does not wait for itself
    thread, begun = in_another_thread(turns, must_be_alone=True)
    assert not begun.wait(0.1)
    turns.end()
    assert not begun.wait(0.1)
    turns.end()
    assert begun.wait(SECONDS)
    thread.join(SECONDS)
    turns.begin(lambda: True)  # all have left
