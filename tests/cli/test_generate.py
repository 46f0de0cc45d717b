import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import model_folders
from full_disk import file_size_limit

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SMALL = ("--steps", "2", "--size", "32x32", "--frames", "5")


@pytest.fixture(scope="session")
def unsupported(tmp_path_factory):
    return model_folders.save_unsupported(tmp_path_factory.mktemp("models") / "unsupported")


@pytest.fixture(scope="session")
def wan(tmp_path_factory):
    return model_folders.save_wan_i2v(tmp_path_factory.mktemp("models") / "wan")


def small(wan, out, *more):
    picture = EXAMPLES / "scene-1.png"
    return ("generate", "--model", wan, "--image", picture, "--prompt", "the cat", *SMALL, "--out", out, *more)


def test_what_happened_and_the_paths_go_to_stdout(alignvid, wan, tmp_path):
    code, out, _ = alignvid(*small(wan, tmp_path, "--steps-window", "0.0-0.5"))
    assert code == 0
    counts, times, *paths = out.splitlines()
    assert counts == "acted in 2 of 4 forwards at 2 sites"  # one of two steps, two passes of guidance
    assert re.fullmatch(r"loading [0-9.]+ s, with AlignVid [0-9.]+ s", times)
    assert paths == [str(tmp_path / "alignvid.mp4"), str(tmp_path / "record.json")]


def test_what_was_chosen_is_said_before_anything_runs(alignvid, wan, tmp_path):
    _, _, err = alignvid(*small(wan, tmp_path, "--gamma", "1.5", "--compare"))
    said = [line.split(maxsplit=1) for line in err.splitlines()]
    assert [line[0] for line in said[:7]] == ["model", "preset", "strength", "where", "when", "size", "steps"]
    texts = {heading: text for heading, text in said[:7]}
    assert "no preset is tuned for this model" in texts["preset"] and texts["preset"].startswith("generic:generic")
    assert "changed here: gamma" in texts["preset"]
    assert texts["strength"] == "gamma 1.5: cross.text x1.5, cross.image x1.5"
    assert "of `blocks`" in texts["where"]
    assert texts["when"] == "0% to 30% of the steps; both passes of guidance"
    assert texts["size"] == "32x32, 5 frames at 16 a second"
    assert texts["steps"] == "2; guidance 5; seed 0"
    assert [" ".join(line) for line in said[7:]] == [
        "loading the model",
        "without AlignVid: 2 steps",
        "decoding the video without AlignVid",
        "with AlignVid: 2 steps",
        "decoding the video with AlignVid",
        "encoding",
    ]


def test_a_model_s_own_preset_is_said_to_be_tuned_for_it(alignvid, tmp_path):
    scene = ("--image", EXAMPLES / "scene-1.png", "--prompt", "add a green circle", "--steps", 1)
    _, _, err = alignvid("generate", *scene, "--out", tmp_path / "a")
    assert "(tuned for this model)" in err
    _, _, err = alignvid("generate", *scene, "--preset", "wan2.1-i2v-14b", "--blocks", "0", "--out", tmp_path / "b")
    assert "(tuned for Wan2.1 I2V 14B (480P and 720P), not for this model; changed here: blocks)" in err
    _, _, err = alignvid("generate", "--record", tmp_path / "a", "--out", tmp_path / "c")
    assert "(as the record has it)" in err


@pytest.mark.filterwarnings("always:The miniature does not know")
def test_a_photo_for_the_miniature_is_said_to_be_outside_its_world(alignvid, tmp_path):
    y, x = np.mgrid[:40, :64]
    Image.fromarray(np.stack([x * 4, y * 6, x + y], -1).astype(np.uint8)).save(tmp_path / "cat.png")
    arguments = ("--image", tmp_path / "cat.png", "--prompt", "add a red circle", "--steps", 1)
    _, _, err = alignvid("generate", *arguments, "--out", tmp_path / "out")
    assert "warning: The miniature does not know such a picture" in err
    assert "with --model." in json.loads((tmp_path / "out" / "record.json").read_text())["notes"][0]


def test_json_prints_the_record(alignvid, wan, tmp_path):
    _, out, _ = alignvid(*small(wan, tmp_path, "--json"))
    assert json.loads(out) == json.loads((tmp_path / "record.json").read_text())


def test_compare_writes_a_page_of_all_three(alignvid, wan, tmp_path):
    _, out, _ = alignvid(*small(wan, tmp_path, "--compare"))
    assert f"Open {tmp_path / 'index.html'}" in out
    page = (tmp_path / "index.html").read_text()
    for name in ("reference.png", "baseline.mp4", "alignvid.mp4", "side_by_side.mp4"):
        assert (
            f'{"href" if name == "side_by_side.mp4" else "src"}="{name}"' in page
        )  # both halves in one are a download


def test_options_reach_the_recipe(alignvid, wan, tmp_path):
    options = (
        "--gamma",
        "1.5",
        "--blocks",
        "0,2",
        "--steps-window",
        "0.0-0.5",
        "--streams",
        "text",
        "--branch",
        "cond",
    )
    _, out, _ = alignvid(*small(wan, tmp_path, "--json", *options))
    recipe = json.loads(out)["recipe"]
    assert recipe["modulation"] == {"kind": "scalar", "gamma": 1.5, "powers": {"cross.text": 1.0}}
    assert (recipe["blocks"], recipe["branch"]) == ("0,2", "cond")
    assert recipe["steps"] == {"unit": "fraction", "start": 0.0, "stop": 0.5}


BOTH = (
    "gamma=1.5 streams=text steps-window=0.0-0.5 & "
    "kind=energy gamma=1.2 streams=image blocks=0+2 steps-window=all branch=cond"
)


def test_a_recipe_of_several_modulations_reaches_the_record_and_is_repeated(alignvid, wan, tmp_path):
    code, _, error = alignvid(*small(wan, tmp_path / "a", "--recipe", BOTH, "--strict"))
    assert code == 0 and "warning: " not in error and "(as --recipe has it)" in error
    record = json.loads((tmp_path / "a" / "record.json").read_text())
    (then,) = record["recipe"]["then"]
    assert record["recipe"]["modulation"] == {"kind": "scalar", "gamma": 1.5, "powers": {"cross.text": 1.0}}
    assert (then["modulation"]["kind"], then["blocks"], then["branch"]) == ("energy", "0,2", "cond")
    assert record["attachment"]["warnings"] == [] and record["attachment"]["acted"] > 0
    alignvid("generate", "--record", tmp_path / "a", "--out", tmp_path / "b")
    again = json.loads((tmp_path / "b" / "record.json").read_text())
    assert again["outputs"]["alignvid"]["frames_sha256"] == record["outputs"]["alignvid"]["frames_sha256"]
    assert again["recipe"] == record["recipe"]


def test_a_recipe_takes_the_place_of_a_recorded_preset_and_the_other_way_round(alignvid, wan, tmp_path):
    alignvid(*small(wan, tmp_path / "a", "--gamma", "1.5"))
    code, _, error = alignvid("generate", "--record", tmp_path / "a", "--out", tmp_path / "b", "--recipe", BOTH)
    assert code == 0 and "warning: " not in error
    assert "then" in json.loads((tmp_path / "b" / "record.json").read_text())["recipe"]
    code, _, error = alignvid("generate", "--record", tmp_path / "b", "--out", tmp_path / "c", "--preset", "generic")
    assert code == 0 and "warning: " not in error
    assert "then" not in json.loads((tmp_path / "c" / "record.json").read_text())["recipe"]


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("gamma=1.5 &", "has nothing on one side of '&'"),
        ("gama=1.5", "A recipe has no setting 'gama'"),
        ("gamma=much", "gamma=much is no number"),
        ("gamma=1.5 & absent", "'absent' is not a preset"),
        ("streams=sound & gamma=2", "'sound' is not a stream"),
        ("kind=conflict-aware & kind=energy", "act on the same attention"),
        ("gamma=1.5 & blocks=9", "9"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_sentence(alignvid, wan, tmp_path, recipe, words):
    code, out, error = alignvid(*small(wan, tmp_path / "out", "--recipe", recipe))
    assert (code, out) == (2, "") and words in error
    assert len(error.splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("always:gamma 100")
def test_what_is_warned_of_stands_in_the_record_and_is_an_error_where_strict(alignvid, wan, tmp_path):
    code, _, error = alignvid(*small(wan, tmp_path / "a", "--gamma", "100"))
    assert code == 0 and "gamma 100 multiplies attention logits by up to" in error
    record = json.loads((tmp_path / "a" / "record.json").read_text())
    assert any("gamma 100" in note for note in record["notes"])
    code, _, error = alignvid(*small(wan, tmp_path / "b", "--gamma", "100", "--strict"))
    assert code == 2 and "alignvid: gamma 100 multiplies" in error.splitlines()[-1]
    assert not (tmp_path / "b").exists()


def test_a_record_is_repeated(alignvid, wan, tmp_path):
    alignvid(*small(wan, tmp_path / "a"))
    code, _, _ = alignvid("generate", "--record", tmp_path / "a" / "record.json", "--out", tmp_path / "b")
    assert code == 0
    assert (tmp_path / "a" / "alignvid.mp4").read_bytes() == (tmp_path / "b" / "alignvid.mp4").read_bytes()


def test_jobs_make_one_page_and_a_failure_is_told(alignvid, wan, tmp_path):
    jobs = tmp_path / "jobs.jsonl"
    lines = [{"id": "good", "image": str(EXAMPLES / "scene-1.png"), "prompt": "<script>the cat</script>"}]
    lines += [{"id": "bad", "image": "no.png", "prompt": "the cat"}]
    jobs.write_text("\n".join(json.dumps(line) for line in lines))
    code, out, err = alignvid("generate", "--model", wan, *SMALL, "--jobs", jobs, "--out", tmp_path / "out")
    assert code == 1
    assert "1 of 2 jobs finished\n" in out
    assert err.startswith("model ") and "\nbad: Image " in err
    page = (tmp_path / "out" / "index.html").read_text()
    assert 'src="good/alignvid.mp4"' in page
    assert "no.png" in page
    assert "<script>the cat" not in page


def test_a_line_of_the_jobs_file_that_cannot_be_read_costs_itself_alone(alignvid, wan, tmp_path):
    jobs = tmp_path / "jobs.jsonl"
    good = {"id": "good", "image": str(EXAMPLES / "scene-1.png"), "prompt": "the cat"}
    jobs.write_text(f'{{"id": "bad"}}\n{json.dumps(good)}\n{{\n')
    code, out, err = alignvid("generate", "--model", wan, *SMALL, "--jobs", jobs, "--out", tmp_path / "out")
    assert code == 1
    assert "1 of 1 jobs finished" in out and f"2 lines of {jobs} cannot be read and were left out" in out
    assert f"left out: '{jobs}', line 1 lacks the field 'prompt'" in err and "line 3: not JSON" in err
    assert (tmp_path / "out" / "good" / "record.json").is_file()


def test_resumed_jobs_say_what_was_skipped(alignvid, wan, tmp_path):
    jobs = tmp_path / "jobs.jsonl"
    lines = [{"id": name, "image": str(EXAMPLES / "scene-1.png"), "prompt": "the cat"} for name in "ab"]
    jobs.write_text(json.dumps(lines[0]))
    command = ("generate", "--model", wan, *SMALL, "--jobs", jobs, "--out", tmp_path / "out")
    alignvid(*command)
    jobs.write_text("\n".join(json.dumps(line) for line in lines))
    _, out, err = alignvid(*command)
    assert "2 of 2 jobs finished, 1 of them before: their folders hold the same job's record" in out
    assert "preset" in err
    _, out, err = alignvid(*command)
    assert "2 of 2 jobs finished, 2 of them before" in out
    assert err == ""  # nothing ran, so nothing was chosen


BAD_INPUT = {
    "image missing": (["--image", "no.png"], "does not exist"),
    "image is a folder": (["--image", "."], "is a folder"),
    "image too large": (["--max-pixels", "100"], "the limit is 0.0001"),
    "prompt empty": (["--prompt", ""], "is empty"),
    "prompt too long": (["--prompt", "word " * 10_000], "has 10,000 words"),
    "prompt not UTF-8": (["--prompt", "a \udcff"], "not valid UTF-8"),
    "prompt only emoji": (["--prompt", "🐱"], "has no words"),
    "gamma zero": (["--gamma", "0"], "finite positive"),
    "gamma negative": (["--gamma", "-1"], "finite positive"),
    "gamma NaN": (["--gamma", "nan"], "'nan' is no finite number"),
    "gamma infinite": (["--gamma", "inf"], "'inf' is no finite number"),
    "window without a step": (["--steps-window", "0.5-0.5"], "contains no step"),
    "window unreadable": (["--steps-window", "early"], "not a step window"),
    "block missing": (["--blocks", "99"], "Block 99"),
    "stack missing": (["--blocks", "single=all"], "is not a stack"),
    "preset unknown": (["--preset", "best"], "is not a preset"),
    "preset file missing": (["--preset", "mine.toml"], "does not exist"),
    "preset of another family": (["--preset", "framepack"], "is for the family framepack"),
    "model unknown": (["--model", "wan"], "is not there"),
    "folder that is no pipeline": (["--model", "."], "is no diffusers pipeline"),
    "stream unknown": (["--streams", "history"], "is not a stream"),
    "device missing": (["--device", "cuda:99"], "does not exist here"),
    "offload on a CPU": (["--device", "cpu", "--offload", "model"], "needs a CUDA device"),
    "size impossible": (["--size", "100x100"], "not a multiple of 16"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_sentence_and_leaves_nothing(alignvid, tmp_path, monkeypatch, case):
    options, message = BAD_INPUT[case]
    monkeypatch.chdir(tmp_path)
    picture = EXAMPLES / "scene-1.png"
    arguments = ["generate", "--image", picture, "--prompt", "add a green circle", "--out", "out", *options]
    code, out, err = alignvid(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("alignvid: ")
    assert err.count("\n") == 1
    assert not Path("out").exists() or not list(Path("out").iterdir())


def test_an_unsupported_model_is_refused_with_the_nearest_supported_ones(alignvid, unsupported, tmp_path):
    code, _, err = alignvid("generate", "--model", unsupported, "--prompt", "a cat", "--out", tmp_path / "out")
    assert code == 2
    assert "StableDiffusionPipeline" in err
    assert "StableDiffusion3Pipeline" in err


def test_an_output_folder_that_cannot_be_written_is_refused(alignvid, wan, tmp_path):
    (tmp_path / "file").write_bytes(b"kept")
    code, _, err = alignvid(*small(wan, tmp_path / "file"))
    assert code == 2
    assert "Cannot write into" in err
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has a folder that nobody may write into")
def test_a_read_only_output_folder_is_refused(alignvid, wan):
    code, _, err = alignvid(*small(wan, "/proc/out"))
    assert code == 2
    assert "Cannot write into" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jobs", "a.jsonl", "--prompt", "x"], "--prompt belongs into the lines of the jobs file"),
        (["--jobs", "a.jsonl", "--record", "b"], "exclude each other"),
        ([], "--prompt is missing"),
        (["--jobs", "no.jsonl"], "cannot be read"),
        (["--record", "no.json"], "cannot be read as a record"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_together_are_refused(alignvid, tmp_path, options, message):
    code, _, err = alignvid("generate", "--out", tmp_path / "out", *options)
    assert code == 2
    assert message in err


def run_program(*arguments, **more):
    command = [sys.executable, "-m", "alignvid", *(str(argument) for argument in arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


@pytest.mark.slow
def test_warnings_are_lines_on_stderr_and_nothing_else_is(tmp_path):
    picture, prompt = EXAMPLES / "scene-1.png", "add a zeppelin at the top left"
    arguments = ("--image", picture, "--prompt", prompt, "--gamma", "100", "--steps", "2", "--out", tmp_path)
    with run_program("generate", *arguments) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert out.splitlines()[-1] == str(tmp_path / "record.json")
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2
    headings = {line.split(" ")[0].rstrip(":") for line in err.splitlines() if line not in warnings}
    choice = {"model", "preset", "strength", "where", "when", "size", "steps"}
    assert headings == choice | {"loading", "with", "decoding", "encoding"}
    assert "does not know 'zeppelin'" in err
    assert "gamma 100" in err


def test_a_damaged_picture_is_refused(alignvid, tmp_path):
    data = (EXAMPLES / "scene-1.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    code, out, err = alignvid("generate", "--image", tmp_path / "a.png", "--prompt", "x", "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert "damaged or cut short" in err
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing(alignvid, wan, tmp_path):
    tmp_path = tmp_path / "out"
    with file_size_limit(4096):  # less than the page, more than the clips
        code, out, err = alignvid(*small(wan, tmp_path, "--compare"))
    assert (code, out) == (2, "")
    assert "nothing there was changed" in err
    assert not tmp_path.exists()


def test_observe_saves_traces_and_prints_their_paths(alignvid, wan, tmp_path):
    code, out, _ = alignvid(*small(wan, tmp_path, "--compare", "--observe", "--words", "cat", "--observe-blocks", "0"))
    assert code == 0
    assert {str(tmp_path / "baseline.trace"), str(tmp_path / "alignvid.trace")} <= set(out.splitlines())
    assert json.loads((tmp_path / "record.json").read_text())["traces"]["alignvid"]["words"] == ["cat"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "x", "--words", "cat"], "--words says what to observe; add --observe"),
        (
            ["--prompt", "x", "--observe-steps-window", "all"],
            "--observe-steps-window says what to observe; add --observe",
        ),
        (["--jobs", "a.jsonl", "--observe"], "--observe watches a single generation; leave out --jobs"),
        (["--prompt", "add a red circle", "--observe", "--words", ","], "names no word"),
        (["--prompt", "add a red circle", "--observe", "--observe-blocks", "some"], "some"),
    ],
    ids=str,
)
def test_observing_that_cannot_be_is_refused(alignvid, tmp_path, options, message):
    code, _, err = alignvid("generate", "--out", tmp_path / "out", *options)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_emphasised_words_are_acted_on_and_recorded_once(alignvid, wan, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    code, _, err = alignvid(*small(wan, first, "--emphasise", "cat:1.6"))
    assert code == 0, err
    recipe = json.loads((first / "record.json").read_text())["recipe"]
    assert [part["modulation"]["weights"] for part in recipe["then"]] == [{"cat": 1.6}]
    assert alignvid("generate", "--record", first, "--out", again)[0] == 0
    assert json.loads((again / "record.json").read_text())["recipe"] == recipe
    assert (again / "alignvid.mp4").read_bytes() == (first / "alignvid.mp4").read_bytes()


@pytest.mark.parametrize(
    ("emphasis", "message"),
    [("dog:1.6", "'dog' is not in the prompt 'the cat'"), ("cat", "write for example"), ("cat:0", "finite positive")],
)
def test_an_emphasis_that_cannot_be_is_one_sentence(alignvid, wan, tmp_path, emphasis, message):
    code, _, err = alignvid(*small(wan, tmp_path, "--emphasise", emphasis))
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_the_slider_is_recorded_and_repeated(alignvid, wan, tmp_path):
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    code, _, err = alignvid(*small(wan, first, "--follow", "0.5"))
    assert code == 0 and "follow +0.5 (from -1, the picture, to 1, the prompt; not tuned for this model)" in err
    recipe = json.loads((first / "record.json").read_text())["recipe"]
    assert recipe["modulation"]["gamma"] == pytest.approx(2**0.5)
    assert alignvid("generate", "--record", first, "--out", again)[0] == 0
    assert (again / "alignvid.mp4").read_bytes() == (first / "alignvid.mp4").read_bytes()
    assert alignvid("generate", "--record", first, "--out", other, "--follow", "-1")[0] == 0
    assert json.loads((other / "record.json").read_text())["recipe"]["modulation"]["gamma"] == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--follow", "0.5", "--gamma", "1.5"), "takes the place of gamma"), (("--follow", "2"), "from -1 (the picture)")],
)
def test_a_slider_that_cannot_be_is_one_sentence(alignvid, wan, tmp_path, options, message):
    code, _, err = alignvid(*small(wan, tmp_path, *options))
    assert code == 2
    assert message in err
