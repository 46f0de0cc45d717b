"""Data in other schemas than OmitI2V's: made sets in each, and what is said of every damaged one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from alignvid.bench.data.opening import open_data
from alignvid.errors import InputError


def picture(path: Path, size: tuple[int, int] = (48, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "grey").save(path)


def lines(path: Path, *rows: dict) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def compbench(root: Path) -> Path:
    """Two dimensions as the card describes them, in its folder v2."""
    base = root / "set" / "v2"
    for dimension, prompts in {
        "action_binding": ["a cat jumps", "a dog sits"],
        "motion_binding": ["a car turns"],
    }.items():
        (base / "prompts").mkdir(parents=True, exist_ok=True)
        (base / "meta_data").mkdir(exist_ok=True)
        (base / "prompts" / f"{dimension}.txt").write_text("\n".join(prompts) + "\n")
        rows = [{"id": f"{n:04d}", "original_question_id": n} for n in range(1, len(prompts) + 1)]
        (base / "meta_data" / f"{dimension}.json").write_text(json.dumps(rows))
        for n in range(1, len(prompts) + 1):
            picture(base / "first_frames" / dimension / f"{n:04d}.png")
    picture(base / "first_frames" / "action_binding" / "0002_16x9.png", (64, 36))
    return root / "set"


def gedit(root: Path) -> Path:
    """The columns of the published table, a line for each row."""
    picture(root / "set" / "a.png")
    row = {"task_type": "color_alter", "key": "0a1b", "instruction": "make the cat red", "input_image": "a.png"}
    more = {"instruction_language": "en", "Intersection_exist": True}
    lines(root / "set" / "metadata.jsonl", row | more, row | more | {"instruction_language": "cn"})
    return root / "set"


def imgedit(root: Path) -> Path:
    picture(root / "set" / "daily object" / "7.jpg")
    rows = {"1082": {"id": "daily object/7.jpg", "prompt": "Remove the chair.", "edit_type": "remove"}}
    (root / "set" / "basic_edit.json").write_text(json.dumps(rows))
    return root / "set"


def plain(root: Path) -> Path:
    picture(root / "set" / "a.png")
    asked = [{"id": "q", "question": "Is there a hat?", "expected_answer": "yes", "category": "object"}]
    row = {"id": "one", "image": "a.png", "prompt": "add a hat", "category": "add", "questions": asked}
    lines(root / "set" / "metadata.jsonl", row, {"id": "two", "image": "a.png", "prompt": "add a tie"})
    return root / "set"


def vbench(root: Path) -> Path:
    (root / "set").mkdir()
    rows = [{"prompt_en": "a red car", "dimension": ["color", "object_class"], "auxiliary_info": {"color": "red"}}]
    (root / "set" / "full.json").write_text(json.dumps(rows))
    return root / "set" / "full.json"


def geneval(root: Path) -> Path:
    (root / "set").mkdir()
    row = {"tag": "counting", "include": [{"class": "cat", "count": 2}], "prompt": "a photo of two cats"}
    lines(root / "set" / "metadata.jsonl", row, row | {"tag": "colors", "prompt": "a photo of a red cat"})
    return root / "set" / "metadata.jsonl"


def texts(root: Path) -> Path:
    (root / "set").mkdir()
    (root / "set" / "color.txt").write_text("a red car\n\na blue car\n")
    (root / "set" / "scene.txt").write_text("a beach\n")
    return root / "set"


EVERY = {  # data, how it is named, its ids, and the group of the first
    "i2v-compbench": (
        compbench,
        ["action_binding-0001", "action_binding-0002", "motion_binding-0001"],
        "action_binding",
    ),
    "editing, GEdit": (gedit, ["0a1b-en", "0a1b-cn"], "color_alter"),
    "editing, ImgEdit": (imgedit, ["1082"], "remove"),
    "editing, plain": (plain, ["one", "two"], "add"),
    "t2v, VBench": (vbench, ["full-0001"], "color"),
    "t2i, GenEval": (geneval, ["metadata-0001", "metadata-0002"], "counting"),
    "t2v, texts": (texts, ["color-0001", "color-0002", "scene-0001"], "color"),
}


@pytest.mark.parametrize("name", EVERY)
def test_a_made_set_is_read_whole(tmp_path, name):
    make, ids, group = EVERY[name]
    data = open_data(f"{name.partition(',')[0]}:{make(tmp_path)}")
    assert [sample.id for sample in data.samples] == ids
    first = data.samples[0]
    assert first.main_category == group and first.prompt and first.questions
    if first.image_path is not None:
        assert all(data.image_of(sample).content for sample in data.samples)
    assert data.has_images == (first.image_path is not None)
    assert len(data.digest()) == 64


def test_the_recommended_frame_is_taken_where_it_is_there(tmp_path):
    first, second, _ = open_data(f"i2v-compbench:{compbench(tmp_path)}").samples
    assert (first.resolution, second.resolution) == ((48, 32), (64, 36))
    assert second.image_path == "first_frames/action_binding/0002_16x9.png"


def test_a_sample_without_questions_gets_one_and_one_with_keeps_its_own(tmp_path):
    one, two = open_data(f"editing:{plain(tmp_path)}").samples
    assert [question.question for question in one.questions] == ["Is there a hat?"]
    (made,) = two.questions
    assert (made.category, made.expected_answer) == ("prompt_followed", "yes")
    assert made.question == "Is the picture the result of this instruction: “add a tie”?"


def change_line(file: str, **changes):
    def damage(folder: Path) -> None:
        path = folder / file
        first, *others = [json.loads(line) for line in path.read_text().splitlines()]
        lines(path, {name: value for name, value in (first | changes).items() if value != "GONE"}, *others)

    return damage


def write(file: str, content: bytes):
    return lambda folder: (folder / file).write_bytes(content)


def remove(file: str):
    return lambda folder: (folder / file).unlink()


def again(file: str):
    return lambda folder: (folder / file).write_text((folder / file).read_text() * 2)


META, FRAME = "v2/meta_data/motion_binding.json", "v2/first_frames/motion_binding/0001.png"
TEXT, LIST = "v2/prompts/motion_binding.txt", "metadata.jsonl"
DAMAGED = {  # data, what is done to it, what is said
    "compbench: no prompts": ("i2v-compbench", compbench, remove(TEXT), None),
    "compbench: no metadata": ("i2v-compbench", compbench, remove(META), "does not exist"),
    "compbench: metadata of another type": (
        "i2v-compbench",
        compbench,
        write(META, b'"x"'),
        "holds no list of objects",
    ),
    "compbench: an entry of another type": (
        "i2v-compbench",
        compbench,
        write(META, b"[7]"),
        "int instead of an object",
    ),
    "compbench: an id twice": (
        "i2v-compbench",
        compbench,
        write(META, b'[{"id":"0001"},{"id":"0001"}]'),
        "'0001' twice",
    ),
    "compbench: other ids": ("i2v-compbench", compbench, write(META, b'[{"id":"0009"}]'), "not 0001 to 0001 in order"),
    "compbench: no JSON": ("i2v-compbench", compbench, write(META, b"["), "is no JSON"),
    "compbench: no frame": ("i2v-compbench", compbench, remove(FRAME), "neither 0001_16x9.png nor 0001.png"),
    "compbench: a broken frame": ("i2v-compbench", compbench, write(FRAME, b"\x89PNG\r\n"), "is broken"),
    "compbench: an empty list": ("i2v-compbench", compbench, write(TEXT, b"\n"), "it is empty"),
    "compbench: not UTF-8": ("i2v-compbench", compbench, write(TEXT, b"caf\xe9\n"), "line 1 is not UTF-8"),
    "compbench: no prompts' folder": (
        "i2v-compbench",
        compbench,
        lambda folder: (folder / "v2" / "prompts").rename(folder / "v2" / "texts"),
        "has no folder 'prompts'",
    ),
    "compbench: more prompts than entries": (
        "i2v-compbench",
        compbench,
        write(TEXT, b"a car turns\na bus turns\n"),
        "has 1 ids and 2 prompts",
    ),
    "editing: no list": ("editing", plain, remove(LIST), "neither metadata.jsonl nor basic_edit.json"),
    "editing: no JSON": ("editing", plain, write(LIST, b"{\n"), "line 1 is no JSON"),
    "editing: a row of another type": ("editing", plain, write(LIST, b"7\n"), "int instead of an object"),
    "editing: not UTF-8": ("editing", plain, write(LIST, b'{"id":"caf\xe9"}\n'), "not UTF-8"),
    "editing: empty": ("editing", plain, write(LIST, b""), "it is empty"),
    "editing: an id twice": ("editing", plain, again(LIST), "has the id 'one' twice"),
    "editing: a prompt of another type": (
        "editing",
        plain,
        change_line(LIST, prompt=7),
        "'prompt' is 7; it must be text",
    ),
    "editing: no prompt": ("editing", plain, change_line(LIST, prompt="GONE"), "'prompt' or 'instruction' is missing"),
    "editing: an empty prompt": ("editing", plain, change_line(LIST, prompt=" "), "'prompt' is ' '"),
    "editing: an id for no file": ("editing", plain, change_line(LIST, id="a/b"), "it names files"),
    "editing: no picture": ("editing", plain, change_line(LIST, image="b.png"), "'b.png' is not there"),
    "editing: a picture outside": ("editing", plain, change_line(LIST, image="../b.png"), "leaves the folder"),
    "editing: a broken picture": ("editing", plain, write("a.png", b"no"), "is broken"),
    "editing: no questions": ("editing", plain, change_line(LIST, questions=[]), "leave it out to have one made"),
    "editing: a question of another type": ("editing", plain, change_line(LIST, questions=[{"id": "q"}]), "question"),
    "editing, ImgEdit: another type": ("editing", imgedit, write("basic_edit.json", b"7"), "int instead of a list"),
    "editing, ImgEdit: a row of another type": (
        "editing",
        imgedit,
        write("basic_edit.json", b'{"1": 7}'),
        "int instead of an object",
    ),
    "editing, ImgEdit: no picture": (
        "editing",
        imgedit,
        write("basic_edit.json", b'{"1": {"prompt": "Remove it."}}'),
        "'image' or 'id' is missing",
    ),
    "editing, GEdit: no key": ("editing", gedit, change_line(LIST, key="GONE"), "'id' or 'key' is missing"),
    "editing, GEdit: a language twice": ("editing", gedit, change_line(LIST, instruction_language="cn"), "twice"),
    "editing, GEdit: no picture": ("editing", gedit, change_line(LIST, input_image="GONE"), "'input_image'"),
    "editing: a file that is no picture": ("editing", plain, change_line(LIST, image=LIST), "is no picture"),
    "t2v: a prompt of another type": ("t2v", vbench, write("full.json", b'[{"prompt_en": 7}]'), "'prompt_en' is 7"),
    "t2v: a row of another type": ("t2v", vbench, write("full.json", b"[7]"), "int instead of an object"),
    "t2v: no text files": (
        "t2v",
        texts,
        lambda folder: [file.unlink() for file in folder.glob("*.txt")],
        "has no .txt file",
    ),
    "t2i: a tag of another type": ("t2i", geneval, write(LIST, b'{"prompt": "a cat", "tag": 7}\n'), "'dimension' is 7"),
    "t2v: no file": ("t2v", vbench, remove("full.json"), "does not exist"),
    "t2v: another type": ("t2v", vbench, write("full.json", b"{}"), "dict instead of a list"),
    "t2v: a dimension of another type": (
        "t2v",
        vbench,
        write("full.json", b'[{"prompt":"a b","dimension":7}]'),
        "'dimension'",
    ),
    "t2v: no prompt": ("t2v", vbench, write("full.json", b"[{}]"), "'prompt' or 'prompt_en' is missing"),
    "t2v: empty": ("t2v", vbench, write("full.json", b"[]"), "holds no sample"),
    "t2i: no JSON": ("t2i", geneval, write(LIST, b"a cat\n"), "line 1 is no JSON"),
    "t2i: no words": ("t2i", geneval, write(LIST, b'{"prompt":"?!"}\n'), "has no words"),
    "t2v: not UTF-8": ("t2v", texts, write("color.txt", b"caf\xe9"), "line 1 is not UTF-8"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_one_is_one_sentence_that_says_where(tmp_path, name):
    prefix, make, damage, message = DAMAGED[name]
    where = make(tmp_path)
    damage(tmp_path / "set")
    if message is None:  # what is left is a whole data set
        assert len(open_data(f"{prefix}:{where}").samples) == 2
        return
    with pytest.raises(InputError) as refused:
        open_data(f"{prefix}:{where}")
    assert message in str(refused.value) and "set" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["editing:", "t2v:/nowhere", "i2v-compbench:/nowhere", "t2i"])
def test_a_place_that_is_none_is_one_sentence(name):
    with pytest.raises(InputError) as refused:
        open_data(name)
    assert "\n" not in str(refused.value)
