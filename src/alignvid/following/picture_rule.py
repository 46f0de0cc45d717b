"""The judge that needs no model: it reads the miniature's reference picture, the prompt and the end of the video."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from alignvid.errors import InputError
from alignvid.following.questions import Answer, Question
from alignvid.media.images import fit_image
from alignvid.media.videos import Frames
from alignvid.miniature.drawing import HEIGHT, WIDTH
from alignvid.miniature.picture import read_picture
from alignvid.miniature.requests import read_request
from alignvid.miniature.strict import judge_request

IDENTITY = "rule: the picture and the prompt, read"


@dataclass(frozen=True)
class PictureRule:
    """Answers its own two questions, from the picture and the prompt alone: no scene is known to it.

    It is not the rule that OmitShapes is scored with, which knows the scene that was drawn.
    """

    image: Image.Image
    """The reference picture: coloured shapes on a plain ground, as the miniature knows them."""
    prompt: str
    """What the video should show, such as "turn the red circle blue"."""
    questions: tuple[Question, ...] = field(init=False)
    identity: str = field(init=False, default=IDENTITY)

    def __post_init__(self) -> None:
        """Read both. Raises: InputError if the picture, the prompt or the two together cannot be read."""
        picture = read_picture(np.asarray(fit_image(self.image.convert("RGB"), WIDTH, HEIGHT)))
        request = read_request(self.prompt)
        request.target_among(picture.shapes)
        wanted = f"Does the video end as {self.prompt!r} asks?"
        asked = (Question(wanted), Question("Is the rest as it was?", about="rest"))
        object.__setattr__(self, "questions", asked)
        object.__setattr__(self, "_read", (picture, request))

    def __call__(self, frames: Frames, questions: tuple[Question, ...]) -> list[Answer]:
        """Yes or no to each.

        Raises: InputError for a question that is not one of its two.
        """
        if strange := [
            one.question for one in questions if one.question not in {own.question for own in self.questions}
        ]:
            raise InputError(
                f"The rule judge cannot answer {strange[0]!r}: it asks its own two questions. Ask another judge, "
                "transformers or openai, or leave the question out."
            )
        found = judge_request(frames, *self._read)  # type: ignore[attr-defined]  # set in __post_init__
        said = {"edit": found.edit_shown, "rest": found.rest_untouched}
        about = {own.question: own.about for own in self.questions}
        reasons = "; ".join(found.reasons) or "all as asked for"
        return [Answer(float(said[about[one.question]]), reasons) for one in questions]
