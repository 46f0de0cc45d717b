"""Ray on this machine where it is too busy for Ray's own patience."""

from __future__ import annotations

import pytest

from alignvid.bench.runs import ray_pool
from alignvid.errors import InputError


class BusyRay:
    """Ray's two functions that start and end it, on a machine that is busy so many times."""

    def __init__(self, times: int, reason: str = "The current node timed out during startup. This could happen …"):
        self.left, self.reason, self.ended, self.cores = times, reason, 0, 0

    def init(self, *, num_cpus: int, **_: object) -> None:
        if self.left:
            self.left -= 1
            raise Exception(self.reason)
        self.cores = num_cpus

    def shutdown(self) -> None:
        self.ended += 1


def test_a_start_that_timed_out_is_tried_again_and_said(caplog):
    ray = BusyRay(2)
    ray_pool._start(ray, 4)
    assert (ray.ended, ray.cores) == (2, 4)
    assert caplog.text.count("it is started again") == 2


@pytest.mark.parametrize(
    ("ray", "message"),
    [
        (BusyRay(9), "Ray was not up within its 30 s, 3 times"),
        (BusyRay(9, "no port"), "cannot be started here: no port"),
    ],
    ids=["always busy", "another reason"],
)
def test_one_that_never_starts_is_one_sentence(ray, message):
    with pytest.raises(InputError, match=message):
        ray_pool._start(ray, 4)
    assert ray.left == 9 - ray.ended
