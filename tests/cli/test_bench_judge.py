import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from alignvid.bench.verdicts import Verdict
from alignvid.files import held
from judged_folders import sample_of, write_run
from rendered_runs import rendered_run


@pytest.fixture
def run(tmp_path):
    return rendered_run(tmp_path / "run", samples=2)


def test_the_rule_judges_a_run_and_counts_verdicts(alignvid, run):
    code, out, err = alignvid("bench", "judge", run.path, "--judge", "rule")

    assert code == 0
    assert out.splitlines()[0].startswith("rule, protocol rule, settings ")
    *_, counted, following = out.splitlines()
    assert following == f"Next: alignvid bench score {run.path}"
    counts = dict(reversed(part.split()) for part in counted.split(", "))
    assert int(counts["yes"]) + int(counts["no"]) == len(run.answers())
    assert counts["unparsed"] == counts["failed"] == counts["missing"] == "0"
    assert err == ""


def test_the_same_line_again_keeps_every_answer(alignvid, run):
    alignvid("bench", "judge", run.path, "--judge", "rule")
    code, out, _ = alignvid("bench", "judge", run.path, "--judge", "rule", "--json")

    told = json.loads(out)
    assert code == 0
    assert told["asked"] == 0
    assert told["kept"] == len(run.answers())


def test_failures_are_said_and_end_with_1(alignvid, run):
    (run.path / run.videos()[0].file).unlink()

    code, out, err = alignvid("bench", "judge", run.path, "--judge", "rule")

    assert code == 1
    assert "cannot be read" in err
    assert ", 0 missing" in out
    assert ", 0 failed" not in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["NOWHERE", "--judge", "rule"], "holds no run"),
        (["RUN", "--judge", "tarot"], "There is no judge 'tarot'; choose from openai, rule, transformers"),
        (["RUN", "--judge", "rule", "--protocol", "paper"], "knows no protocol 'paper'"),
        (["RUN", "--judge", "rule", "--model", "x"], "takes no --model"),
        (["RUN", "--judge", "transformers"], "needs --model"),
        (["RUN", "--judge", "openai", "--base-url", "http://127.0.0.1:9/v1"], "does not answer"),
        (["RUN", "--judge", "openai", "--concurrency", "0"], "--concurrency"),
        (["RUN"], "--judge"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_a_users_mistake_is_one_sentence_and_ends_with_2(alignvid, run, arguments, sentence):
    words = {"RUN": run.path, "NOWHERE": run.path.parent}
    code, out, err = alignvid("bench", "judge", *(words.get(word, word) for word in arguments))

    assert code == 2
    assert out == ""
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert not (run.path / "answers.jsonl").exists()


def test_a_missing_extra_names_the_line_that_installs_it(run, tmp_path):
    """In a process of its own, where openai cannot be imported."""
    (tmp_path / "openai.py").write_text("raise ImportError('no openai')")
    arguments = ["bench", "judge", run.path, "--judge", "openai", "--base-url", "http://x"]
    done = subprocess.run(
        [sys.executable, "-m", "alignvid", *arguments],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert 'pip install "alignvid[judge]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_an_audit_draws_a_page_and_reads_its_answers_back(alignvid, run, tmp_path):
    alignvid("bench", "judge", run.path, "--judge", "rule")

    code, out, _ = alignvid("bench", "audit", run.path, "--count", "8")

    assert code == 0
    assert out.startswith(f"8 of {len(run.answers())} answered questions, of rule")
    assert (run.path / "audit.html").exists()

    rows = [{"job": row.job, "question": row.question, "answer": row.verdict} for row in run.answers()]
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps({"schema_version": 1, "answers": rows}))
    code, out, _ = alignvid("bench", "audit", run.path, "--answers", answers)
    assert code == 0
    assert "sensitivity" in out
    assert "corrected" in out

    code, out, _ = alignvid("bench", "audit", run.path, "--answers", answers, "--json")
    assert json.loads(out)["kappa"]["value"] == 1.0


def test_an_audit_of_an_unjudged_run_says_what_to_type(alignvid, run):
    code, _, err = alignvid("bench", "audit", run.path)
    assert code == 2
    assert "has no answers yet; type: alignvid bench judge" in err


def test_an_audit_shows_no_video_but_the_one_that_was_judged(alignvid, run):
    alignvid("bench", "judge", run.path, "--judge", "rule")
    video = run.path / run.videos()[0].file
    video.write_bytes(video.read_bytes() + b"more")
    code, out, err = alignvid("bench", "audit", run.path)
    assert (code, out) == (2, "")
    assert f"{video.name}' is gone, or is not the video that was judged" in err
    assert not (run.path / "audit.html").exists()


def test_a_run_without_videos_has_nothing_to_judge(alignvid, run):
    for record in run.videos():
        run.write_video(replace(record, status="failed", error="no luck"), None)
    code, out, err = alignvid("bench", "judge", run.path, "--judge", "rule")
    assert (code, out) == (2, "")
    assert "has no videos yet; 4 jobs failed; type the line of `alignvid bench run` again" in err


def test_the_next_line_can_be_pasted_whatever_the_folder_is_called(alignvid, tmp_path):
    run = rendered_run(tmp_path / "it's a run; $HOME", samples=1)
    _, out, _ = alignvid("bench", "judge", run.path, "--judge", "rule")
    line = out.splitlines()[-1].removeprefix("Next: ")
    assert shlex.split(line) == ["alignvid", "bench", "score", str(run.path)]
    told = subprocess.run(["sh", "-c", f'set -- {line}; echo $#; echo "$4"'], capture_output=True, text=True).stdout
    assert told == f"4\n{run.path}\n"
    _, out, _ = alignvid("bench", "audit", run.path, "--count", "2")
    assert shlex.split(out.splitlines()[-1])[4] == str(run.path)


def test_the_rule_refuses_data_that_it_does_not_know_before_it_writes_anything(alignvid, tmp_path):
    run = write_run(tmp_path / "run", [sample_of(0)], decide=lambda *asked: None)
    before = sorted(path.name for path in run.path.iterdir())
    code, out, err = alignvid("bench", "judge", run.path, "--judge", "rule")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "The rule judge knows OmitShapes alone: 'sample_0' is no sample of OmitShapes" in err
    assert "Take --judge transformers or --judge openai." in err
    assert sorted(path.name for path in run.path.iterdir()) == before


def test_the_rule_refuses_videos_of_another_size_before_it_writes_anything(alignvid, run):
    for record in run.videos():
        run.write_video(replace(record, frames=81, width=832, height=480), None)
    code, _, err = alignvid("bench", "judge", run.path, "--judge", "rule")
    assert code == 2
    assert "and the videos of this run have 81 of 832×480. Take" in err
    assert not (run.path / "judges.jsonl").exists()


def test_failed_answers_of_another_judge_do_not_stand_in_the_way(alignvid, run):
    alignvid("bench", "judge", run.path, "--judge", "rule")
    failed = [
        replace(row, judge="openai:x", protocol="paper", verdict=Verdict.FAILED, error="?") for row in run.answers()
    ]
    run.add_answers(failed)
    code, out, _ = alignvid("bench", "score", run.path)
    assert code == 0
    assert "1 other judgings have no answer but FAILED ones, and were passed over" in out
    code, out, _ = alignvid("bench", "score", run.path, "--judge", "openai:x", "--json")
    assert json.loads(out)["judging"]["judge"] == "openai:x"


def test_a_run_that_is_being_judged_is_left_alone(alignvid, run):
    with held(run.path / ".judging.lock", busy=""):
        code, _, err = alignvid("bench", "judge", run.path, "--judge", "rule")
    assert (code, err.count("\n")) == (2, 1)
    assert "is being judged by another process; wait until it ends" in err


def test_commands_of_the_bench_are_listed_without_torch():
    listed = "import sys, alignvid.cli.main; sys.exit('torch' in sys.modules or 'openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", listed], timeout=120, check=False).returncode == 0
