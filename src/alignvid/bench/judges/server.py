"""Any OpenAI-compatible server, such as vLLM: many requests in flight, each asked until it is answered or given up.

The questions of a video go out together once the first of them is answered: the server has the video in its cache then.
Frames are chosen here and sent lossless, so what the model sees does not depend on the server's sampling.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from alignvid.bench.data.samples import Question
from alignvid.bench.judges import asking, messages
from alignvid.bench.judges.base import Case, Deliver, Judge, JudgeIdentity, JudgeKind, JudgeOptions, Reply
from alignvid.bench.judges.endpoint import Endpoint, Refused, Trouble, open_endpoint
from alignvid.bench.judges.frames import Sampling, sampling_for, shown_frames
from alignvid.bench.judges.pace import Pace
from alignvid.errors import AlignvidError, InputError, JudgeError
from alignvid.media.videos import Clip, read_video

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CONCURRENCY = 32
TIMEOUT_S = 120.0
ATTEMPTS = 6
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
"""Between the attempts at a question, doubling; a server's Retry-After goes first."""
_REFUSALS = 3
"""So many refused requests before any answer mean that all will be."""


@dataclass(frozen=True)
class ServerJudge(Judge):
    """Asks a model behind an address."""

    endpoint: Endpoint
    model: str
    sampling: Sampling
    protocol: str
    send: messages.Send
    concurrency: int
    server_version: str | None

    @property
    def identity(self) -> JudgeIdentity:
        """Model, prompt and frames; the address decides nothing."""
        settings = {
            **asking.shared_settings(self.protocol, self.sampling),
            "model": self.model,
            "server_version": self.server_version,
            "send": self.send,
            "temperature": 0,
            **({"thinking": False} if messages.without_thinking(self.model) else {}),
        }
        return JudgeIdentity(judge=f"openai:{self.model}", protocol=self.protocol, settings=settings)

    def answer(self, cases: Iterable[Case], deliver: Deliver) -> None:
        """Ask everything; what was delivered stays, also when the server goes away in between."""
        try:
            asyncio.run(self._answer(cases, deliver))
        except BaseExceptionGroup as group:
            raise _first(group) from group

    def write(self, shown: Clip, request: str, max_tokens: int) -> str:
        """The model's own words about the first frame. Raises: JudgeError if the server gives none."""
        picture = messages.content(shown_frames(shown, self.sampling), "images")[:1]
        body = messages.body(model=self.model, protocol="paper", shown=picture, times={}, text=request)
        reply = asyncio.run(self._written({**body, "max_tokens": max_tokens}))
        if reply.text is None:
            raise JudgeError(f"The judge's model wrote no questions: {reply.error}.")
        return reply.text

    async def _written(self, body: dict[str, Any]) -> Reply:
        async with self.endpoint.client() as client:
            asker = _Asker(replace(self, protocol="paper"), client, Pace(1), lambda case, question, reply: None)
            return await asker.reply(body)

    async def _answer(self, cases: Iterable[Case], deliver: Deliver) -> None:
        pace = Pace(self.concurrency)
        open_videos = asyncio.Semaphore(self.concurrency // 2 + 1)  # a video has several questions in flight
        async with self.endpoint.client() as client, asyncio.TaskGroup() as group:
            asker = _Asker(self, client, pace, deliver)
            for case in cases:
                await open_videos.acquire()
                task = group.create_task(asker.answer_case(case))
                task.add_done_callback(lambda _: open_videos.release())


@dataclass
class _Asker:
    """One pass over the cases."""

    judge: ServerJudge
    client: AsyncOpenAI
    pace: Pace
    deliver: Deliver
    answered: int = 0
    refused: list[str] = field(default_factory=list)

    async def answer_case(self, case: Case) -> None:
        """Ask the first question, then the others together."""
        try:
            shown = await asyncio.to_thread(lambda: shown_frames(read_video(case.video), self.judge.sampling))
            parts = await asyncio.to_thread(messages.content, shown, self.judge.send)
        except AlignvidError as error:
            for question in case.questions:
                self.deliver(case, question, Reply.failed(str(error)))
            return
        times = messages.frame_times(shown, self.judge.send)
        first, *others = case.questions
        await self._answer(case, first, parts, times)
        async with asyncio.TaskGroup() as group:
            for question in others:
                group.create_task(self._answer(case, question, parts, times))

    async def _answer(self, case: Case, question: Question, parts: list[Any], times: dict[str, Any]) -> None:
        start = time.monotonic()
        body = messages.body(
            model=self.judge.model,
            protocol=self.judge.protocol,
            shown=parts,
            times=times,
            text=asking.prompt(question),
        )
        reply = await self.reply(body)
        self.deliver(case, question, replace(reply, seconds=time.monotonic() - start))

    async def reply(self, body: dict[str, Any]) -> Reply:
        """Ask until there is an answer, or enough attempts were made."""
        from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_attempt

        number, answered_before = 0, self.answered
        try:
            async for attempt in AsyncRetrying(
                stop=stop_after_attempt(ATTEMPTS), retry=retry_if_exception_type(Trouble), wait=_wait
            ):
                with attempt:
                    number = attempt.retry_state.attempt_number
                    reply = await self._attempt(body)
                    self.answered += 1
                    return replace(reply, attempts=number)
        except Refused as refusal:
            return self._refusal(refusal, number)
        except RetryError as error:
            trouble = error.last_attempt.exception()
            if isinstance(trouble, Trouble) and trouble.is_unreachable and self.answered == answered_before:
                await asyncio.to_thread(self.judge.endpoint.check)
            return Reply.failed(f"{trouble} ({number} attempts)", attempts=number)
        raise AssertionError("tenacity returns or raises")

    async def _attempt(self, body: dict[str, Any]) -> Reply:
        async with self.pace.slot() as sent_at:
            try:
                reply = await self._ask(body)
            except Trouble as trouble:
                if trouble.is_overload:
                    self.pace.overloaded(sent_at)
                raise
        self.pace.went_well()
        return reply

    async def _ask(self, body: dict[str, Any]) -> Reply:
        """One request. Raises: as `Endpoint.complete` does."""
        endpoint = self.judge.endpoint
        completion = await endpoint.complete(self.client, body)
        try:
            return messages.reply_of(completion, self.judge.protocol)
        except messages.Useless as useless:
            return Reply.failed(str(useless))
        except messages.ErrorBody as error:
            raise endpoint.meaning(error.status, str(error)) from error
        except messages.Nonsense as error:
            raise Trouble("the server's answer has not the form of a chat completion") from error
        except messages.NoLogProbabilities as error:
            raise InputError(
                "The server gives no log-probabilities of its tokens; judge with --protocol paper."
            ) from error

    def _refusal(self, refusal: Refused, number: int) -> Reply:
        self.refused.append(str(refusal))
        if not self.answered and len(self.refused) >= _REFUSALS:
            raise InputError(f"The server refuses every request: {refusal}. docs/judging.md says how it is started.")
        return Reply.failed(f"the server refuses the request: {refusal}", attempts=number)


def open_server(options: JudgeOptions) -> ServerJudge:
    """Reach the server.

    Raises: InputError if it has no address, does not answer, or does not know the model; MissingExtra without openai.
    """
    endpoint = open_endpoint(options.base_url, options.api_key, options.timeout_s or TIMEOUT_S)
    model = endpoint.model(options.model)
    return ServerJudge(
        endpoint=endpoint,
        model=model,
        sampling=sampling_for(model),
        protocol=str(options.protocol),
        send=options.send or "video",
        concurrency=options.concurrency or CONCURRENCY,
        server_version=endpoint.version(),
    )


def _wait(state: Any) -> float:
    from tenacity import wait_random_exponential

    trouble = state.outcome.exception()
    backoff = wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)(state)
    return max(backoff, min(trouble.retry_after_s, LONGEST_WAIT_S))


def _first(group: BaseExceptionGroup) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


KIND = JudgeKind(
    name="openai",
    protocols=asking.PROTOCOLS,
    options=frozenset({"model", "base_url", "api_key", "concurrency", "timeout_s", "send"}),
    open=open_server,
)
