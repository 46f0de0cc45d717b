"""A checklist that the judge's own model writes once: whether the edit is seen, then what must have stayed."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from alignvid.bench.judges.base import Judge
from alignvid.errors import InputError
from alignvid.following.questions import About, Question
from alignvid.media.videos import Clip

REQUEST = (
    "Someone wants a video that begins with this picture and follows this request: {prompt}\n\n"
    "Write a checklist of yes/no questions about the finished video, each of which is answered yes if the video is "
    "right. First one or two lines that begin with 'EDIT:' and ask whether what was requested is seen. Then up to "
    "three lines that begin with 'KEEP:' and ask whether something in the picture that the request does not mention "
    "is still as it was. Write nothing else."
)
MAX_TOKENS = 400
MOST_EDITS, MOST_KEPT = 3, 4
_LINE = re.compile(r"^\W*(?:\d+\W*)?(EDIT|KEEP)\b[\s*_`]*:[\s*_`\"']*(.+?\?)[\s*_`\"']*$", re.IGNORECASE)
_ABOUT: dict[str, About] = {"EDIT": "edit", "KEEP": "rest"}
_STILL_FRAMES = 4  # the fewest that a judge of videos takes


def checklist(judge: Judge, picture: Image.Image, prompt: str) -> tuple[Question, ...]:
    """Questions for a loop, about the edit first.

    Raises: InputError if the judge writes none, or none that can be read; JudgeError if it cannot be asked.
    """
    still = np.repeat(np.asarray(picture.convert("RGB"))[None], _STILL_FRAMES, 0)
    return read_checklist(judge.write(Clip(still, fps=1.0), REQUEST.format(prompt=prompt), MAX_TOKENS))


def read_checklist(text: str) -> tuple[Question, ...]:
    """The questions in a model's reply.

    Raises: InputError if no line asks about the edit.
    """
    found: dict[str, Question] = {}
    for line in text.splitlines():
        if match := _LINE.match(line.strip()):
            found.setdefault(match[2], Question(match[2], "yes", _ABOUT[match[1].upper()]))
    edits = [one for one in found.values() if one.about == "edit"][:MOST_EDITS]
    kept = [one for one in found.values() if one.about == "rest"][:MOST_KEPT]
    if not edits:
        raise InputError(
            f"The judge's model wrote no checklist that can be read ({' '.join(text.split())[:80]!r}); "
            'give the questions yourself: --ask "Does the cat wear sunglasses?".'
        )
    return (*edits, *kept)
