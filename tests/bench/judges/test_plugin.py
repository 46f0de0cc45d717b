"""docs/judge-plugins.md: its judge, found by its entry point like an installed one."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from alignvid.bench.data.samples import Question, Sample
from alignvid.bench.judges import Case, JudgeOptions, judge_names, open_judge
from alignvid.bench.verdicts import Verdict
from alignvid.errors import InputError

PAGE = (Path(__file__).parents[3] / "docs" / "judge-plugins.md").read_text(encoding="utf-8")
ANSWERS = "job,question,answer\na,hat,Yes \na,dog,no\na,cat,perhaps\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Iterator[str]:
    """What installing the page's package leaves in site-packages: its module, and its entry points."""
    site = tmp_path_factory.mktemp("site")
    code, project = (re.search(rf"^```{kind}\n(.*?)^```$", PAGE, re.M | re.S)[1] for kind in ("python", "toml"))
    (site / "spreadsheet_judge.py").write_text(code, encoding="utf-8")
    points = tomllib.loads(project)["project"]["entry-points"]["alignvid.judges"]
    info = site / "spreadsheet_judge-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spreadsheet-judge\nVersion: 1.0\n")
    lines = [f"{name} = {module}" for name, module in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[alignvid.judges]", *lines]))
    sys.path.insert(0, str(site))
    yield "spreadsheet"
    sys.path.remove(str(site))
    sys.modules.pop("spreadsheet_judge", None)


def case(*questions: str) -> Case:
    asked = tuple(
        Question(id=name, question=f"Is there a {name}?", expected_answer="no", category="") for name in questions
    )
    sample = Sample(
        id="s",
        image_path="a.png",
        prompt="",
        main_category="addition",
        sub_category="",
        domain="",
        expected_change="",
        resolution=(64, 64),
        questions=asked,
    )
    return Case(job="a", sample=sample, video=Path("a.mp4"), questions=asked)


def test_the_judge_of_the_page_answers_as_people_did(installed, tmp_path):
    (tmp_path / "answers.csv").write_text(ANSWERS)
    assert installed in judge_names()
    judge = open_judge(installed, JudgeOptions(model=str(tmp_path / "answers.csv")))
    heard = {}
    judge.answer([case("hat", "dog", "cat", "rat")], lambda case, question, reply: heard.update({question.id: reply}))
    assert [heard[name].verdict for name in ("hat", "dog", "cat", "rat")] == [
        Verdict.YES,
        Verdict.NO,
        Verdict.UNPARSED,
        Verdict.FAILED,
    ]
    assert heard["rat"].error == "Nobody answered 'rat' of a."


def test_another_file_is_another_judge_and_none_is_an_error(installed, tmp_path):
    digests = set()
    for number, text in enumerate((ANSWERS, ANSWERS.replace("no", "yes"))):
        (tmp_path / f"{number}.csv").write_text(text)
        digests.add(open_judge(installed, JudgeOptions(model=str(tmp_path / f"{number}.csv"))).identity.digest)
    assert len(digests) == 2
    with pytest.raises(InputError, match="needs a file of answers; say --model"):
        open_judge(installed, JudgeOptions())
