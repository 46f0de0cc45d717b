"""A run in a thread: what it reports is seen, its result and errors come back, and it ends when it is not wanted."""

import threading

import pytest

from alignvid.app.watching import Cancelled, Watched


def seen_of(watched, work):
    steps, seen = watched.run(work), []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return seen, end.value


def test_reports_come_in_order_and_the_result_last():
    watched = Watched()
    assert seen_of(watched, lambda: [watched.report(number) for number in range(3)] and "done") == ([0, 1, 2], "done")


def test_an_error_of_the_work_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        seen_of(Watched(), lambda: 1 / 0)


def test_a_cancelled_run_ends_at_its_next_report_and_may_report_while_it_unwinds():
    watched, unwound = Watched(), []

    def work():
        try:
            while True:
                watched.report("step")
        finally:
            watched.report("unwinding")
            unwound.append(True)

    steps = watched.run(work)
    assert next(steps) == "step"
    watched.cancel()
    with pytest.raises(Cancelled):
        for _ in steps:
            pass
    assert unwound == [True]


def test_who_looks_away_ends_the_run_and_waits_for_its_end():
    watched, before = Watched(), threading.active_count()

    def work():
        while True:
            watched.report("step")

    steps = watched.run(work)
    next(steps)
    steps.close()
    assert watched.is_cancelled and threading.active_count() == before
