"""Samples: a reference image or none, a prompt, and yes/no questions about the video or picture.

The fields are those of OmitI2V's meta.json, with underscores for its hyphens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from alignvid.fields import InnerPath, Positive

Answer = Literal["yes", "no"]
MAIN_CATEGORIES = ("modification", "addition", "deletion")


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about a video, asked alone."""

    id: str
    """Unique in its sample."""
    question: str
    expected_answer: Answer
    category: str
    """What is asked for: object_presence, action_correctness, …"""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One case of a benchmark."""

    id: str
    """Unique in its data set; used in file names."""
    image_path: InnerPath | None
    """Of the reference image, relative to the data set's root, or to the run's folder in a run; None for a prompt
    alone."""
    prompt: str
    main_category: str
    """modification, addition or deletion."""
    sub_category: str
    domain: str
    expected_change: str
    """What should be seen."""
    resolution: tuple[Positive, Positive] | None
    """Width and height of the image."""
    questions: tuple[Question, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with the underscored names of the fields; `fields.read` reads it back."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        resolution = None if self.resolution is None else list(self.resolution)
        return fields | {"resolution": resolution, "questions": [dict(vars(q)) for q in self.questions]}
