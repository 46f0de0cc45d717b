import asyncio

from alignvid.bench.judges.pace import Pace


def test_it_doubles_each_round_until_the_first_overload():
    pace = Pace(100)
    for _ in range(8):
        pace.went_well()
    assert pace.limit == 16


def test_it_never_passes_the_most():
    pace = Pace(10)
    for _ in range(50):
        pace.went_well()
    assert pace.limit == 10


def test_an_overload_halves_and_a_good_round_adds_one():
    pace = Pace(100)
    pace.overloaded(0)
    assert pace.limit == 4
    for _ in range(4):
        pace.went_well()
    assert 4.9 < pace.limit < 5.1


def test_overloads_of_one_round_count_once():
    pace = Pace(100)
    for _ in range(8):
        pace.overloaded(0)
    assert pace.limit == 4


def test_one_request_is_always_allowed():
    pace = Pace(100)
    for halvings in range(10):
        pace.overloaded(halvings)
    assert pace.limit == 1


def test_no_more_than_the_limit_are_in_flight():
    async def run():
        pace, seen = Pace(3), []

        async def request():
            async with pace.slot():
                seen.append(pace.in_flight)
                await asyncio.sleep(0)

        await asyncio.gather(*(request() for _ in range(20)))
        return seen, pace.in_flight

    seen, left = asyncio.run(run())
    assert len(seen) == 20
    assert max(seen) == 3
    assert left == 0
