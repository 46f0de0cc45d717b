"""Judge a run: ask what has no answer yet, and append each answer as soon as it is there.

An answer is known by judge, protocol, settings, job, question and the video's digest. The same call again asks only
what is missing or FAILED. A video that is gone or is not the recorded one is not shown to the judge: its questions
FAIL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alignvid.bench.data.samples import Question, Sample
from alignvid.bench.judges.base import Case, Judge, JudgeIdentity, Reply
from alignvid.bench.records import AnswerRecord, JudgeRecord, VideoRecord
from alignvid.bench.run_folder import RunFolder
from alignvid.bench.verdicts import Verdict
from alignvid.errors import UnreadableFile
from alignvid.files import held, sha256_of_file

_LOCK = ".judging.lock"
Key = tuple[str, str, str]
"""Job, question, digest of the video."""


@dataclass(frozen=True)
class Tally:
    """How a run stands with one judge."""

    identity: JudgeIdentity
    verdicts: Counter[Verdict]
    """Of every question of every planned job; MISSING where there is no video to ask about."""
    asked: int
    """Answers that are new."""
    kept: int
    """Answers that were there."""

    @property
    def warning(self) -> str | None:
        """What to look at before these verdicts are scored, if most replies say nothing."""
        unparsed = self.verdicts[Verdict.UNPARSED]
        replies = unparsed + self.verdicts[Verdict.YES] + self.verdicts[Verdict.NO]
        if 2 * unparsed <= replies:
            return None
        return (
            f"{unparsed} of {replies} replies say neither yes nor no (UNPARSED), and count as not right. Read some of "
            "them in answers.jsonl: the judge may think aloud until its limit, or not see the video."
        )


@dataclass(frozen=True)
class _Video:
    """A video of the run with its sample, and the questions without an answer."""

    record: VideoRecord
    sample: Sample
    open_questions: tuple[Question, ...]


def judge_run(
    run: RunFolder, judge: Judge, *, limit: int | None, on_answer: Callable[[AnswerRecord, int], None]
) -> Tally:
    """Answer what is open, of the first `limit` samples.

    `on_answer` is given each new answer and how many were open at the start.

    Raises: InputError if the folder holds no run, no videos, data that the judge does not know, or is being judged;
    AlignvidError from a judge that cannot answer.
    """
    samples = run.samples()[:limit]
    judge.check(samples, [row for row in run.videos_to_read() if row.sample in {sample.id for sample in samples}])
    with held(run.path / _LOCK, busy=f"{str(run.path)!r} is being judged by another process; wait until it ends."):
        run.add_judge(_judge_record(judge.identity))
        known = _known(run, judge.identity)
        videos = _videos(run, samples, known)
        open_count = sum(len(video.open_questions) for video in videos)
        rows: list[AnswerRecord] = []

        def take(video: _Video, question: Question, reply: Reply) -> None:
            row = _row(judge.identity, video, question, reply)
            run.add_answers([row])
            rows.append(row)
            on_answer(row, open_count)

        _answer(run, judge, [video for video in videos if video.open_questions], take)
    return _tally(run, judge.identity, samples, known, rows)


def _answer(
    run: RunFolder, judge: Judge, videos: list[_Video], take: Callable[[_Video, Question, Reply], None]
) -> None:
    by_job = {video.record.job: video for video in videos}

    def cases() -> Iterator[Case]:
        for video in videos:
            file = run.path / str(video.record.file)
            if trouble := _trouble(file, video.record):
                for question in video.open_questions:
                    take(video, question, Reply.failed(trouble))
                continue
            yield Case(job=video.record.job, sample=video.sample, video=file, questions=video.open_questions)

    judge.answer(cases(), lambda case, question, reply: take(by_job[case.job], question, reply))


def _trouble(file: Path, record: VideoRecord) -> str | None:
    """Why this file is not the video that was recorded."""
    remedy = "bring it back or run the benchmark anew"
    try:
        found = sha256_of_file(file)
    except UnreadableFile as error:
        return f"The video {record.file} cannot be read ({error.reason}); {remedy}."
    if found != record.sha256:
        return f"The video {record.file} has changed since it was recorded (sha256 {found[:12]}…); {remedy}."
    return None


def _known(run: RunFolder, identity: JudgeIdentity) -> dict[Key, Verdict]:
    """Verdicts of this judge that need no second asking."""
    return {
        (row.job, row.question, row.video_sha256): row.verdict
        for row in run.answers()
        if (row.judge, row.protocol, row.settings) == (identity.judge, identity.protocol, identity.digest)
        and row.verdict is not Verdict.FAILED
    }


def _videos(run: RunFolder, samples: list[Sample], known: dict[Key, Verdict]) -> list[_Video]:
    """The videos of these samples, in their order."""
    by_id = {sample.id: (number, sample) for number, sample in enumerate(samples)}
    records = [row for row in run.videos() if row.status == "done" and row.sample in by_id]
    return [
        _Video(record, sample, tuple(item for item in sample.questions if _key(record, item) not in known))
        for record in sorted(records, key=lambda row: by_id[row.sample][0])
        for sample in [by_id[record.sample][1]]
    ]


def _key(record: VideoRecord, question: Question) -> Key:
    return record.job, question.id, str(record.sha256)


def _row(identity: JudgeIdentity, video: _Video, question: Question, reply: Reply) -> AnswerRecord:
    if reply.p_yes is not None and not 0 <= reply.p_yes <= 1:
        reply = Reply.failed(f"the judge gives {reply.p_yes} as a probability", attempts=reply.attempts)
    return AnswerRecord(
        judge=identity.judge,
        protocol=identity.protocol,
        settings=identity.digest,
        job=video.record.job,
        sample=video.sample.id,
        question=question.id,
        video_sha256=str(video.record.sha256),
        verdict=reply.verdict,
        reply=_writable(reply.text),
        p_yes=reply.p_yes,
        error=_writable(reply.error),
        attempts=reply.attempts,
        seconds=None if reply.seconds is None else round(reply.seconds, 3),
    )


def _writable(text: str | None) -> str | None:
    """The text with halves of characters joined, and U+FFFD in place of a half alone, which no file can hold."""
    return None if text is None else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _judge_record(identity: JudgeIdentity) -> JudgeRecord:
    return JudgeRecord(
        judge=identity.judge, protocol=identity.protocol, settings=identity.digest, values=dict(identity.settings)
    )


def _tally(
    run: RunFolder,
    identity: JudgeIdentity,
    samples: list[Sample],
    known: dict[Key, Verdict],
    rows: list[AnswerRecord],
) -> Tally:
    info = run.info()
    counts: Counter[Verdict] = Counter(row.verdict for row in rows)
    records = {(row.sample, row.variant, row.seed): row for row in run.videos() if row.status == "done"}
    kept = 0
    for sample in samples:
        for variant in info.variant_names:
            for seed in info.seeds:
                record = records.get((sample.id, variant, seed))
                if record is None:
                    counts[Verdict.MISSING] += len(sample.questions)
                    continue
                verdicts = [known[key] for item in sample.questions if (key := _key(record, item)) in known]
                counts.update(verdicts)
                kept += len(verdicts)
    return Tally(identity, counts, len(rows), kept)
