import json
import os
import re
import unicodedata

import pytest
from PIL import Image

from alignvid.bench.data.opening import open_data
from alignvid.errors import InputError


def row(number=0, **changes):
    question = {"id": "q1", "question": "Is there a hat?", "expected_answer": "yes", "category": "object_presence"}
    values = {
        "id": f"sample_{number}",
        "image-path": f"addition/hat/sample_{number}.png",
        "prompt": "the cat puts on a hat",
        "main-category": "addition",
        "sub-category": "clothing",
        "domain": "living things",
        "expected-change": "a hat on the cat's head",
        "resolution": [48, 32],
        "questions": [question, {**question, "id": "q2", "expected_answer": "No"}],
    }
    return {**values, **changes}


def write(folder, *rows):
    for values in rows:
        path = folder / values["image-path"]
        if path.resolve().is_relative_to(folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (48, 32), "grey").save(path)
    (folder / "meta.json").write_text(json.dumps(rows))
    return str(folder)


def test_a_folder_in_the_schema_is_read_whole(tmp_path):
    data = open_data(write(tmp_path, row(0), row(1)))

    assert data.name == tmp_path.name
    first = data.samples[0]
    assert (first.id, first.main_category, first.resolution) == ("sample_0", "addition", (48, 32))
    assert first.expected_change == "a hat on the cat's head"
    assert [question.expected_answer for question in first.questions] == ["yes", "no"]
    assert data.image_of(first).suffix == ".png"


def test_the_file_may_be_named_instead_of_the_folder(tmp_path):
    write(tmp_path, row())

    assert len(open_data(str(tmp_path / "meta.json")).samples) == 1


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"id": None}, "id", "missing"),
        ({"id": 7}, "id", "must be text"),
        ({"id": "../up"}, "id", "names files"),
        ({"id": "a b"}, "id", "names files"),
        ({"id": "x" * 101}, "id", "names files"),
        ({"prompt": "  "}, "prompt", "empty"),
        ({"prompt": "?!"}, "prompt", "no words"),
        ({"main-category": "magic"}, "main-category", "choose one of modification, addition, deletion"),
        ({"sub-category": ["a"]}, "sub-category", "must be text"),
        ({"resolution": [48]}, "resolution", r"\[width, height\]"),
        ({"resolution": [48, "32"]}, "resolution", r"\[width, height\]"),
        ({"questions": []}, "questions", "no question"),
        ({"questions": ["Is there a hat?"]}, r"questions\[0\]", "an object"),
        ({"questions": [{"id": "q"}]}, r"questions\[0\].expected_answer", "missing"),
    ],
)
def test_a_malformed_row_is_left_out_with_row_and_field(tmp_path, changes, field, problem):
    folder = write(tmp_path, row(0), row(1, **{"image-path": "a.png", **changes}), row(2))
    data = open_data(folder)
    assert [sample.id for sample in data.samples] == ["sample_0", "sample_2"]
    (dropped,) = data.dropped
    assert dropped.sample == "row 2"
    assert re.search(rf"row 2.*'{field}'.*{problem}", dropped.reason)


def test_all_fields_that_a_row_lacks_are_named_at_once(tmp_path):
    values = {"id": "a", "image-path": "a.png", "prompt": "the cat jumps", "questions": [{"id": "q"}, "?"]}
    (tmp_path / "meta.json").write_text(json.dumps([values]))
    with pytest.raises(InputError) as refused:
        open_data(str(tmp_path))
    lacks = ["main-category", "resolution", *(f"questions[0].{name}" for name in ("question", "expected_answer"))]
    lacks.append("questions[0].category")
    assert f"row 1 (id 'a'): the fields {', '.join(map(repr, lacks))} are missing." in str(refused.value)


@pytest.mark.parametrize("odd", [1, "a", None, [], True], ids=repr)
def test_a_row_that_is_no_object_is_left_out(tmp_path, odd):
    write(tmp_path, row())
    (tmp_path / "meta.json").write_text(json.dumps([odd, row()]))
    data = open_data(str(tmp_path))
    assert len(data.samples) == 1
    assert data.dropped[0].sample == "row 1" and "instead of an object" in data.dropped[0].reason


def test_an_expected_answer_is_yes_or_no(tmp_path):
    question = {"id": "q", "question": "?", "expected_answer": "maybe", "category": "c"}

    with pytest.raises(InputError, match=r"questions\[0\].expected_answer' is 'maybe'; it must be 'yes' or 'no'"):
        open_data(write(tmp_path, row(questions=[question])))


def test_question_ids_differ_within_a_sample(tmp_path):
    question = row()["questions"][0]

    with pytest.raises(InputError, match="'questions' has the id 'q1' twice"):
        open_data(write(tmp_path, row(questions=[question, question])))


def test_the_second_row_with_one_id_is_left_out_whatever_the_case(tmp_path):
    data = open_data(write(tmp_path, row(0), row(1, id="SAMPLE_0")))
    assert [sample.id for sample in data.samples] == ["sample_0"]
    assert "row 2: the id 'SAMPLE_0' is that of row 1" in data.dropped[0].reason


@pytest.mark.parametrize("path", ["../secret.png", "a/../../secret.png", "/etc/passwd", "..\\secret.png", "C:\\x.png"])
def test_a_path_that_leaves_the_root_is_refused(tmp_path, path):
    (tmp_path / "meta.json").write_text(json.dumps([row(**{"image-path": path})]))

    with pytest.raises(InputError, match=r"row 1.*'image-path'.*leaves the data set"):
        open_data(str(tmp_path))


def test_a_link_out_of_the_root_is_refused(tmp_path):
    outside = tmp_path / "outside.png"
    Image.new("RGB", (48, 32)).save(outside)
    folder = tmp_path / "data"
    write_into = folder / "addition" / "hat"
    write_into.mkdir(parents=True)
    (write_into / "sample_0.png").symlink_to(outside)
    (folder / "meta.json").write_text(json.dumps([row()]))

    with pytest.raises(InputError, match="a link that leads out of the data set"):
        open_data(str(folder))


def test_a_link_within_the_root_is_fine(tmp_path):
    folder = write(tmp_path, row())
    image = tmp_path / row()["image-path"]
    image.rename(tmp_path / "real.png")
    image.symlink_to(tmp_path / "real.png")

    data = open_data(folder)

    assert data.image_of(data.samples[0]).content == (tmp_path / "real.png").read_bytes()


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}', "[]", "[1]", "null"])
def test_a_file_that_holds_no_samples_is_refused(tmp_path, content):
    (tmp_path / "meta.json").write_text(content)

    with pytest.raises(InputError, match=r"meta\.json"):
        open_data(str(tmp_path))


def test_a_folder_without_a_meta_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a data set needs a meta\.json"):
        open_data(str(tmp_path))


def test_a_name_that_is_nothing_is_refused_with_what_there_is():
    with pytest.raises(InputError, match="give 'omitshapes', 'omiti2v', a folder"):
        open_data("nowhere")


@pytest.mark.parametrize("name", ["omiti2v", "somebody/something", "somebody/something@main"])
def test_without_a_connection_the_hub_says_so(name):
    with pytest.raises(InputError, match="cannot be fetched from the Hugging Face Hub"):
        open_data(name)


def test_a_snapshot_of_the_hub_is_read_from_its_cache(tmp_path, monkeypatch):
    """As huggingface_hub lays it out: the files of a snapshot are links into blobs/."""
    from huggingface_hub import constants

    commit = "0" * 40
    cache = tmp_path / "datasets--somebody--something"
    snapshot = cache / "snapshots" / commit
    blobs = cache / "blobs"
    blobs.mkdir(parents=True)
    write(blobs, row(**{"image-path": "picture.png"}))
    snapshot.mkdir(parents=True)
    (snapshot / "meta.json").symlink_to(blobs / "meta.json")
    (snapshot / "picture.png").symlink_to(blobs / "picture.png")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    data = open_data("somebody/something")

    assert (data.name, data.revision) == ("somebody/something", commit)
    assert data.image_of(data.samples[0]).content


def test_the_digest_tells_another_image_and_another_question(tmp_path):
    digests = set()
    for index, change in enumerate(["none", "question", "image"]):
        folder = tmp_path / str(index)
        folder.mkdir()
        values = row()
        if change == "question":
            values["questions"][0]["question"] = "Is there a cap?"
        write(folder, values)
        if change == "image":
            Image.new("RGB", (48, 32), "red").save(folder / values["image-path"])
        digests.add(open_data(str(folder)).digest())

    assert len(digests) == 3


@pytest.mark.timeout(60)
def test_an_image_that_is_no_file_costs_its_own_sample_alone(tmp_path):
    folder = write(tmp_path, *(row(number) for number in range(5)))
    rows = [{**row(number), "id": f"sample_{number}"} for number in range(5)]
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for number, path in enumerate(["pipe.png", "x\0y.png", "loop.png", "x" * 300]):
        rows[number]["image-path"] = path
    (tmp_path / "meta.json").write_text(json.dumps(rows))
    data = open_data(folder)
    for sample in data.samples[:4]:
        with pytest.raises(InputError, match="cannot be read"):
            data.image_of(sample)
    assert data.image_of(data.samples[4]).content


@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_an_image_is_found_however_another_system_wrote_its_name(tmp_path, written):
    folder = write(tmp_path, row(0))
    other = "NFD" if written == "NFC" else "NFC"
    (tmp_path / row(0)["image-path"]).rename(tmp_path / unicodedata.normalize(other, "café.png"))
    changed = {**row(0), "image-path": unicodedata.normalize(written, "café.png")}
    (tmp_path / "meta.json").write_text(json.dumps([changed]))
    data = open_data(folder)
    assert data.image_of(data.samples[0]).content


def test_an_image_path_with_backslashes_is_found(tmp_path):
    folder = write(tmp_path, row(0))
    changed = {**row(0), "image-path": row(0)["image-path"].replace("/", "\\")}
    (tmp_path / "meta.json").write_text(json.dumps([changed]))
    data = open_data(folder)
    assert data.image_of(data.samples[0]).content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"id": "a", "id": "b"}]', "the key 'id' is there twice"),
        ('[{"id": "a", "prompt": "half \\ud83d"}]', "holds half a character"),
        ("[" * 100_000, "nested deeper than 64 levels"),
        ("[NaN]", "NaN is no finite number"),
    ],
    ids=["twice", "half a character", "deep", "NaN"],
)
def test_a_loophole_of_json_is_refused_with_the_file(tmp_path, text, message):
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(InputError, match=rf"meta\.json' cannot be read: .*{message}.*; a data set needs a meta\.json"):
        open_data(str(tmp_path))


def test_a_size_of_true_and_false_is_none(tmp_path):
    with pytest.raises(InputError, match=r"'resolution' is .*True, True"):
        open_data(write(tmp_path, row(resolution=[True, True])))


def test_no_name_is_no_data_set_even_in_a_folder_that_is_one(tmp_path, monkeypatch):
    write(tmp_path, row())
    monkeypatch.chdir(tmp_path)
    for name in ("", " ", "~nobody-here/data"):
        with pytest.raises(InputError):
            open_data(name)
