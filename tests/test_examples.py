import json
from pathlib import Path

import numpy as np
from PIL import Image

from alignvid.miniature.drawing import first_frame
from alignvid.miniature.evaluate import trials
from alignvid.miniature.prompts import unknown_words
from alignvid.miniature.scenes import HELD_OUT

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_examples_are_the_first_scenes_of_the_demo():
    jobs = [json.loads(line) for line in (EXAMPLES / "jobs.jsonl").read_text().splitlines()]
    cases = trials(HELD_OUT, 8)[: len(jobs)]
    assert len(jobs) == 3
    for job, case in zip(jobs, cases, strict=True):
        assert job["prompt"] == case.prompt
        assert np.array_equal(np.asarray(Image.open(EXAMPLES / job["image"])), first_frame(case.scene))


def test_the_miniature_knows_every_word_of_the_examples():
    for line in (EXAMPLES / "jobs.jsonl").read_text().splitlines():
        assert unknown_words(json.loads(line)["prompt"]) == []
