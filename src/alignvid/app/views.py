"""What the page shows that Gradio has no component for, as HTML; every text from outside is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

from alignvid.app.attempts import Attempted
from alignvid.app.form import weights_in, words_of
from alignvid.app.runs import Run
from alignvid.app.workshop import Loading, Look, Waiting

if TYPE_CHECKING:
    from alignvid.generate.progress import Progress

_STAGES = {"loading": "Loading the model", "encoding": "Writing the videos"}
_ROLES = {"baseline": "without AlignVid", "alignvid": "with AlignVid"}

ON_CLICK = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (button) trigger(button.dataset.act, { value: button.dataset.value });
});
"""
"""A button of such HTML says what it is for: "click", or "submit" where a run is asked for."""


def said(text: str, kind: str = "") -> str:
    """A line about the run; `kind`: "error", "done" or "" for what goes on."""
    return f'<p class="av-status {kind}" role="status">{escape(text)}</p>'


def progress_bar(seen: Progress | Waiting | Loading) -> str:
    """How far a run is."""
    if isinstance(seen, Loading):
        return _bar(_STAGES["loading"], "")
    if isinstance(seen, Waiting):
        return said("Waiting for the model, which another run has…")
    of = _ROLES.get(seen.role or "", "")
    if seen.stage == "steps":
        text, bar = (
            f"Making the video {of}: step {seen.done} of {seen.total}",
            f'value="{seen.done}" max="{seen.total}"',
        )
    else:
        text, bar = _STAGES.get(seen.stage, f"Decoding the video {of}"), ""
    return _bar(text, bar)


def _bar(text: str, value: str) -> str:
    return f'<p class="av-status" role="status">{escape(text)}…</p><progress class="av-bar" {value}></progress>'


def words_to_pick(prompt: str, words: str) -> str:
    """The prompt's words as buttons, those that have a weight pressed."""
    weights = {word.casefold(): weight for word, weight in weights_in(words).items()}
    buttons = [_word(word, "click", weights.get(word.casefold())) for word in words_of(prompt)]
    return _row("Click on a word to emphasise it", buttons) if buttons else ""


def words_to_look_at(run: Run, look: Look | None = None) -> str:
    """The words of a run's prompt as buttons, and the map of the one that was clicked on."""
    words = words_of(run.record.spec["prompt"])
    buttons = [_word(word, "click", "" if look and word == look.word else None) for word in words]
    row = _row("Click on a word to see where the videos looked at it", buttons)
    return row if look is None else row + frame(look.page, f"Attention to “{look.word}”")


def result(run: Run | None) -> str:
    """The run's own page inside this one, and its links."""
    if run is None:
        return '<div class="av-empty">The video appears here, beside the one without AlignVid.</div>'
    return (
        f'{frame(run.page, "The videos, played in step")}<p class="av-links">'
        f'<a href="{run.place}/record.json" target="_blank">Open record</a> '
        f'<a href="{run.page}" target="_blank">Page of its own</a> '
        f'<button type="button" data-act="submit" data-value="{run.id}">Repeat</button></p>'
    )


def attempts(attempted: Attempted) -> str:
    """The attempts so far; another address each time, so that the page is read again."""
    return frame(f"runs/{attempted.id}/index.html?{attempted.number}", "The attempts, each with the judge's answers")


def frame(url: str, title: str) -> str:
    """A page of the report inside this one; it sets its own height."""
    return f'<iframe class="av-frame" src="{escape(url)}" title="{escape(title)}"></iframe>'


def history(runs: Sequence[Run] | None, chosen: str | None = None) -> str:
    """The runs on disk, newest first; None: they are being read."""
    if not runs:
        said_so = "Reading the runs…" if runs is None else "No run yet."
        return f'<h2>History</h2><div class="av-empty">{said_so}</div>'
    return f'<h2>History</h2><ul class="av-history">{"".join(_card(run, run.id == chosen) for run in runs)}</ul>'


def _card(run: Run, is_chosen: bool) -> str:
    record = run.record
    made = datetime.fromisoformat(record.created).astimezone()
    place = run.place
    picture = f'<img src="{place}/{escape(record.image["file"])}" alt="">' if record.image else ""
    follow = dict(record.spec).get("follow")
    strength = f", follow {follow:g}" if isinstance(follow, int | float) else ""
    loop = "" if not run.attempts else f" · {run.attempts} attempt{'s' if run.attempts > 1 else ''}"
    facts = f"{made:%d %b %H:%M} · {record.model['name']}{strength} · seed {record.spec['seed']}{loop}"
    return (
        f'<li class="{"chosen" if is_chosen else ""}">{picture}<div><span class="prompt">'
        f'{escape(record.spec["prompt"])}</span><small>{escape(facts)}</small><span class="av-links">'
        f'<button type="button" data-act="click" data-value="{run.id}">Open</button>'
        f'<button type="button" data-act="submit" data-value="{run.id}">Repeat</button>'
        f'<a href="{place}/record.json" target="_blank">Record</a></span></div></li>'
    )


def _row(label: str, buttons: Sequence[str]) -> str:
    return f'<p class="av-label">{label}</p><p class="av-words">{"".join(buttons)}</p>'


def _word(word: str, act: str, weight: str | None) -> str:
    """A word; pressed where it has a weight, which may be empty."""
    factor = f" <small>×{escape(weight)}</small>" if weight else ""
    pressed = "false" if weight is None else "true"
    return (
        f'<button type="button" data-act="{act}" data-value="{escape(word)}" aria-pressed="{pressed}">'
        f"{escape(word)}{factor}</button>"
    )
