"""How many requests may be in flight: as many as the server bears, found by trying."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

_FIRST_LIMIT = 8


class Pace:
    """Doubles each round until the server is overloaded; then half, and one more a round.

    Overloads of requests that were sent before the last halving say nothing new and count once.
    """

    def __init__(self, most: int) -> None:
        """Never more than `most` at once."""
        self._most = most
        self.limit = float(min(_FIRST_LIMIT, most))
        self.in_flight = 0
        self._has_overloaded = False
        self._halvings = 0
        self._room = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[int]:
        """Wait for room; gives the number to pass to `overloaded`."""
        async with self._room:
            await self._room.wait_for(lambda: self.in_flight < int(self.limit))
            self.in_flight += 1
        try:
            yield self._halvings
        finally:
            self.in_flight -= 1
            async with self._room:
                self._room.notify_all()

    def went_well(self) -> None:
        """A request was answered."""
        step = 1 / self.limit if self._has_overloaded else 1.0
        self.limit = min(self.limit + step, float(self._most))

    def overloaded(self, sent_at: int) -> None:
        """A request was refused or not answered in time."""
        if sent_at == self._halvings:
            self.limit = max(self.limit / 2, 1.0)
            self._has_overloaded = True
            self._halvings += 1
