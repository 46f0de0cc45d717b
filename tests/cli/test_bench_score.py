import csv
import io
import json

import pytest

from alignvid.bench.verdicts import Verdict
from judged_folders import sample_of, write_run, wrong


def flicker(sample, variant, seed):
    return 0.9 + 0.001 * int(sample.id.split("_")[1])


@pytest.fixture
def run(tmp_path):
    def decide(sample, variant, seed, question):
        is_wrong = variant == "baseline" and sample.id in ("sample_1", "sample_2")
        return wrong(question) if is_wrong else Verdict(question.expected_answer)

    samples = [sample_of(n) for n in range(6)]
    return write_run(tmp_path / "run", samples, decide=decide, metrics={"flicker": flicker}).path


def test_score_prints_the_headline_and_the_paired_verdict_last(alignvid, run):
    code, out, err = alignvid("bench", "score", run)
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if line]
    assert len(lines) <= 12  # nine tables lie behind --all
    assert "Accuracy, all samples" not in out and "Gains over" not in out
    heading = next(number for number, line in enumerate(lines) if line.startswith("variant "))
    assert lines[heading + 1].startswith("baseline  66.7 [") and lines[heading + 2].startswith("alignvid  100.0 [")
    verdict, points, counts = lines[heading + 3 : heading + 6]
    assert verdict == "alignvid against baseline: no difference shown:"
    assert points.startswith("  +33.3 [") and points.endswith("] points, p 0.5000;")
    assert counts == "  2 wins, 4 ties, 0 losses on 6 samples"
    assert lines[-2] == "By category, and of metrics: add --all."
    assert lines[-1] == f"Next: alignvid bench report {run}"


@pytest.mark.parametrize(("count", "verdict"), [(5, "too few samples to say, at least 6"), (12, "alignvid is better")])
def test_the_verdict_says_better_only_where_the_samples_show_it(alignvid, tmp_path, count, verdict):
    def decide(sample, variant, seed, question):
        return wrong(question) if variant == "baseline" else Verdict(question.expected_answer)

    run = write_run(tmp_path / "run", [sample_of(n) for n in range(count)], decide=decide).path
    _, out, _ = alignvid("bench", "score", run)
    assert verdict in out
    _, out, _ = alignvid("bench", "score", run, "--variants", "alignvid,baseline")
    assert (count < 6) or "baseline is worse than alignvid:\n  -100.0 [" in out


@pytest.mark.parametrize(("margin", "said"), [("0.1", "not worse"), ("0.001", "not shown to be no worse")])
def test_margins_are_answered_in_a_sentence(alignvid, tmp_path, margin, said):
    def steady(sample, variant, seed):
        number = int(sample.id.split("_")[1])
        return 0.9 - (0.01 + 0.001 * (number % 3) if variant == "alignvid" else 0)

    run = write_run(tmp_path / "run", [sample_of(n) for n in range(6)], metrics={"steady": steady}).path
    _, out, _ = alignvid("bench", "score", run, "--margin", f"steady={margin}")
    assert f"alignvid against baseline in steady: {said}, at a margin of {margin}" in out


def test_all_prints_tables_before_the_headline_and_three_files_are_written(alignvid, run):
    code, out, err = alignvid("bench", "score", run, "--all")
    assert (code, err) == (0, "")
    assert out.index("Accuracy, all samples") < out.index("Gains over baseline") < out.index("no difference shown")
    assert "omitshapes, 6 samples × 2 variants × 1 seed on miniature: 12 of 12 videos." in out
    assert "66.7 [" in out and "+33.3 [" in out
    assert {path.name for path in run.glob("scores.*")} == {"scores.json", "scores.csv", "scores.md"}
    assert "## Accuracy, by sub-category" in (run / "scores.md").read_text()
    assert "cannot be compared" in (run / "scores.md").read_text()


def test_json_is_the_file(alignvid, run):
    _, out, _ = alignvid("bench", "score", run, "--json")
    assert out == (run / "scores.json").read_text()
    assert json.loads(out)["judging"] == {"judge": "rule", "protocol": "rule", "settings": "00000000"}


def test_csv_holds_every_score_comparison_and_metric(alignvid, run):
    _, out, _ = alignvid("bench", "score", run, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["table"] for row in rows} == {"score", "comparison", "metric", "metric comparison"}
    total = next(row for row in rows if row["dimension"] == "overall" and row["variant"] == "baseline")
    assert (total["measure"], total["value"], total["n"], total["right"]) == ("accuracy", "0.666667", "6", "8")


def test_a_variant_without_an_answer_says_n_0_and_no_rate(alignvid, tmp_path):
    def decide(sample, variant, seed, question):
        return None if variant == "alignvid" else Verdict.YES

    run = write_run(tmp_path / "run", [sample_of(0)], decide=decide).path
    _, out, _ = alignvid("bench", "score", run)
    assert "alignvid  n = 0" in out and "have no sample in common that was answered" in out
    _, out, _ = alignvid("bench", "score", run, "--all")
    assert "0.0 [" not in out.split("Gains")[0].split("alignvid  n = 0")[1].splitlines()[0]


def test_text_of_samples_stays_in_its_cell_of_the_markdown(alignvid, tmp_path):
    sample = sample_of(0, categories=("a|b <script>", "rest"))
    run = write_run(tmp_path / "run", [sample]).path
    alignvid("bench", "score", run)
    assert "| a\\|b &lt;script> |" in (run / "scores.md").read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--all", "--json"], "--json and --csv hold every number; leave --all out."),
        (["--variants", "baseline,cfg"], "The run has no variant 'cfg'; choose from baseline, alignvid."),
        (["--judge", "gemini"], "There are no answers of --judge gemini; choose from: --judge rule"),
        (
            ["--margin", "flicker"],
            "'flicker' is no margin; write it as aesthetic_quality=0.01, with a loss of 0 or more.",
        ),
        (["--margin", "aesthetic_quality=0.01"], "alignvid bench measure RUN --metrics aesthetic_quality"),
        (["--margin", "flicker=-1"], "'flicker=-1' is no margin"),
        (["--margin", "flicker=nan"], "'flicker=nan' is no margin"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_one_sentence(alignvid, run, options, sentence):
    code, out, err = alignvid("bench", "score", run, *options)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_a_run_file_that_holds_something_else_is_one_sentence(alignvid, run):
    (run / "run.json").write_text("[]")
    code, _, err = alignvid("bench", "score", run)
    assert code == 2
    assert "run.json' is []; it must be an object with the fields data, model" in err and err.count("\n") == 1


def test_a_folder_that_is_no_run_is_one_sentence(alignvid, tmp_path):
    code, _, err = alignvid("bench", "score", tmp_path / "nothing")
    assert code == 2
    assert "holds no run" in err and err.count("\n") == 1
