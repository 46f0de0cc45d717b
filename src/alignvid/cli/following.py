"""What `generate --until-followed` adds: its options, the judge that they name, and what is said of each attempt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alignvid.cli.terminal import print_json, quiet_libraries, resumable, say
from alignvid.cli.watching import Watch, say_lines
from alignvid.errors import MissingExtra

if TYPE_CHECKING:
    from alignvid.following import Attempt, Followed, Judge, Question
    from alignvid.generate.plan import Plan

NOT_FOLLOWED = 3
"""Exit code: everything went well, and no attempt is right."""
RULE = "rule"
NOT_BELIEVED = 0.05
"""Chance of seeing no error at a rate that is then taken for too high."""

JUDGE_OPTIONS = (
    click.option("--judge-model", help="Folder, Hub id or a server's name of the judge's model."),
    click.option("--judge-device", help="Of the judge's model: cpu, cuda, cuda:1 or auto."),
    click.option("--judge-protocol", help='"paper" (text; default) or "logit" (P(yes)).'),
    click.option("--base-url", help="Of the judge's server, ending in /v1; else OPENAI_BASE_URL."),
    click.option("--send", type=click.Choice(["video", "images"]), help="Frames as one video (default), or as images."),
)
"""What decides a judge of `alignvid bench`; the page has them, too."""

_OPTIONS = (
    click.option(
        "--until-followed",
        is_flag=True,
        help="Again with new noise until a judge says that the prompt is followed; exit code 3: not followed.",
    ),
    click.option(
        "--judge",
        help='Of --until-followed: "rule" reads the miniature\'s pictures; "transformers", "openai", or installed.',
    ),
    click.option(
        "--ask",
        multiple=True,
        help='A question about the video: "Does the cat wear sunglasses?", "rest: Is the sofa still there?", '
        '"no: Has the cat left?". Repeat for more; without any the judge\'s model writes them.',
    ),
    click.option("--budget", type=int, help="Most attempts; 6 unless given."),
    click.option("--minutes", type=float, help="In place of --budget: no attempt begins after so many."),
    click.option("--must-move", is_flag=True, help="A video that stands still has failed, though no image is given."),
    click.option(
        "--may-stand-still", is_flag=True, help="A video that stands still may be right, though an image is given."
    ),
    *JUDGE_OPTIONS,
    click.option(
        "--audit", type=click.Path(path_type=Path), help="The judge's exact-….json of `alignvid bench audit --exact`."
    ),
)
_NAMES = (
    "until_followed",
    "judge",
    "ask",
    "budget",
    "minutes",
    "must_move",
    "may_stand_still",
    "judge_model",
    "judge_device",
    "judge_protocol",
    "base_url",
    "send",
    "audit",
)
JUDGE_FIELDS = {
    "judge_model": "model",
    "judge_device": "device",
    "judge_protocol": "protocol",
    "base_url": "base_url",
    "send": "send",
}


def following_options(command: Any) -> Any:
    """Add the options of the loop."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_following(options: dict[str, Any], alone: dict[str, bool]) -> dict[str, Any] | None:
    """Take the loop's options out of all; None where there is no loop.

    `alone`: other flags, and whether they are set, that do not go with a loop.
    """
    wanted = {name: options.pop(name) for name in _NAMES}
    if not wanted.pop("until_followed"):
        if given := [name for name, value in wanted.items() if value not in (None, (), False)]:
            flag = given[0].replace("_", "-")
            raise click.UsageError(f"--{flag} belongs to --until-followed; add that, or leave it out.")
        return None
    if clashing := [flag for flag, is_set in alone.items() if is_set]:
        raise click.UsageError(f"{clashing[0]} and --until-followed exclude each other; leave one of them out.")
    if wanted["judge"] is None:
        raise click.UsageError(
            "--until-followed needs a judge: --judge rule for the miniature, --judge transformers with --judge-model, "
            "or --judge openai with --base-url."
        )
    may_stand_still = wanted.pop("may_stand_still")
    if wanted["must_move"] and may_stand_still:
        raise click.UsageError("--must-move and --may-stand-still exclude each other; leave one of them out.")
    wanted["must_move"] = False if may_stand_still else wanted["must_move"] or None
    return wanted


def run_until_followed(fields: dict[str, Any], out: Path, wanted: dict[str, Any], strict: bool, as_json: bool) -> None:
    """Run the loop, print what came of it, and exit with its code."""
    from alignvid.following import generate_until_followed
    from alignvid.following.limits import Limits
    from alignvid.following.questions import Question
    from alignvid.generate import GenerationSpec
    from alignvid.generate.plan import plan

    Limits.of(wanted["budget"], wanted["minutes"])
    given = [Question.parse(text) for text in wanted["ask"]] or None
    spec = GenerationSpec(**fields)
    planned = plan(spec)
    judge, asked = _judge(wanted, planned, given, out)
    audit = _audit_of(wanted["audit"], judge)
    with Watch() as watch, resumable():
        found = generate_until_followed(
            spec,
            out,
            judge=judge,
            questions=asked,
            budget=wanted["budget"],
            minutes=wanted["minutes"],
            must_move=wanted["must_move"],
            strict=strict,
            on_plan=lambda planned: say_lines(planned.lines()),
            on_questions=_say_questions,
            on_progress=watch.show,
            on_attempt=_say_attempt,
        )
    if as_json:
        print_json({**found.to_dict(), "audit": audit})
    else:
        _print(found, out, audit)
    sys.exit(0 if found.is_followed else NOT_FOLLOWED)


def _judge(
    wanted: dict[str, Any], planned: Plan, given: list[Question] | None, out: Path
) -> tuple[Judge, tuple[Question, ...] | list[Question] | None]:
    """The judge, and what to ask: what was given, what the folder has (None), or what the judge's model writes."""
    options = {field: wanted[name] for name, field in JUDGE_FIELDS.items() if wanted[name] is not None}
    if wanted["judge"] == RULE:
        return _rule(planned, options, given), None
    from alignvid.bench.judges import JudgeOptions, open_judge
    from alignvid.bench.judges.asker import Asker
    from alignvid.bench.judges.checklist import checklist
    from alignvid.following.folder import QUESTIONS_FILE

    if wanted["judge"] == "transformers":
        quiet_libraries()
    judge = open_judge(wanted["judge"], JudgeOptions(**options))
    asker = Asker(judge, fps=planned.settings.fps)
    if given is not None or (out / QUESTIONS_FILE).exists():
        return asker, given
    if planned.image is None:
        raise click.UsageError('Without a picture there is no checklist; ask yourself: --ask "Does a cat jump?".')
    return asker, checklist(judge, planned.image, planned.spec.prompt)


def _rule(planned: Plan, options: dict[str, Any], given: list[Question] | None) -> Judge:
    from alignvid.following import PictureRule

    if options:
        flag = next(name for name, field in JUDGE_FIELDS.items() if field in options).replace("_", "-")
        raise click.UsageError(f"The judge 'rule' takes no --{flag}; leave it out.")
    if given:
        raise click.UsageError(
            "The judge 'rule' asks its own two questions, from picture and prompt; leave --ask out, or ask another "
            "judge: transformers or openai."
        )
    if not planned.source.is_miniature or planned.image is None:
        raise click.UsageError(
            "The judge 'rule' reads the miniature's pictures alone; take --judge transformers or --judge openai."
        )
    return PictureRule(planned.image, planned.spec.prompt)


def _audit_of(file: Path | None, judge: Judge) -> dict[str, Any] | None:
    """How often the judge is wrong on clips of known truth; None where that is not known."""
    from alignvid.following import PictureRule

    if isinstance(judge, PictureRule):
        return _audit_of_rule(file)
    if file is None:
        return None
    from alignvid.bench.audits.exact_file import read_exact_of
    from alignvid.bench.judges.asker import Asker

    assert isinstance(judge, Asker), "a judge is the rule, or one of `alignvid bench`"
    own = judge.judge.identity
    facts = read_exact_of(file, own.judge, own.protocol, own.digest)
    wrong = facts["false_alarms"] + facts["rejections"]
    return {"file": str(file), "false_yes": facts["false_alarms"], "of": wrong}


def _audit_of_rule(file: Path | None) -> dict[str, Any] | None:
    """Made at once, for it takes seconds; None without the extra that renders its clips."""
    if file is not None:
        raise click.UsageError("The judge 'rule' is audited by the command itself; leave --audit out.")
    try:
        from alignvid.bench.audits.picture_rule import audit_picture_rule
    except MissingExtra:
        return None
    found = audit_picture_rule()
    return {"file": None, "false_yes": found.false_yes, "of": found.of_wrong}


def _say_questions(questions: tuple[Question, ...]) -> None:
    for number, one in enumerate(questions, start=1):
        wanted = "" if one.expected_answer == "yes" else " (no is right)"
        say(f"question {number}, {one.about}: {one.question}{wanted}")


def _say_attempt(attempt: Attempt) -> None:
    was = " (was there)" if attempt.was_there else ""
    state = "followed" if attempt.is_followed else "not followed"
    say(f"attempt {attempt.number}, seed {attempt.seed}{was}: {state}")
    for one in attempt.answers:
        mark = "right" if one.is_right else "wrong"
        said = f": {' '.join(one.answer.text.split())[:160]}" if one.answer.text else ""
        say(f"  {mark}, {one.says or 'no answer'} to {one.question.question!r}{said}")
    if attempt.is_still:
        say(f"  wrong, it stands still: no place changes by more than {attempt.motion:.1f} colour levels")


def _print(found: Followed, out: Path, audit: dict[str, Any] | None) -> None:
    best = found.best
    forwards = f"{found.forwards} forwards"
    click.echo(f"{str(found).capitalize()}, of at most {found.limit}; {forwards}")
    if best is None:
        return
    for heading, answers in (("right", best.right), ("not right", best.wrong)):
        for one in answers:
            click.echo(f"{heading}: {one.says or 'no answer'} to {one.question.question!r}")
    if best.is_still:
        click.echo("not right: it stands still")
    click.echo(f"judge: {found.judge}; {trust(audit, len(found.attempts))}")
    if best.made.file is not None:
        click.echo(out / f"best{best.made.file.suffix}")
        click.echo(best.made.file.parent / "record.json")


def trust(audit: dict[str, Any] | None, attempts: int) -> str:
    """How far a yes can be trusted, in words."""
    if audit is None or not audit["of"]:
        return "how often it says yes wrongly is not known: it was not audited"
    rate = audit["false_yes"] / audit["of"]
    if not rate:
        most = 1 - NOT_BELIEVED ** (1 / audit["of"])
        return (
            f"its audit: yes wrongly to none of {audit['of']} false things (95 % confidence: below {most:.0%} of them)"
        )
    of_all = 1 - (1 - rate) ** attempts
    more = f", which in {attempts} attempts makes up to {of_all:.0%} false ends" if attempts > 1 else ""
    return f"its audit: yes wrongly to {audit['false_yes']} of {audit['of']} false things ({rate:.1%}){more}"
