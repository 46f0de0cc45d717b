"""One name for one thing, over the whole tree of commands."""

from collections import defaultdict

import click
import pytest

from alignvid.cli.main import cli
from alignvid.cli.options import Size
from alignvid.cli.values import Given

MEANINGS = {
    "--answers": "a file of people's answers",
    "--arms": "arms of a trial",
    "--ask": "a question about a video",
    "--audit": "measured errors of a judge",
    "--base-url": "address of a server",
    "--batch": "samples in one call",
    "--blocks": "where a gain acts",
    "--branch": "pass of guidance in which it acts",
    "--budget": "most attempts",
    "--cfg-high": "steps with guidance, from the first one on",
    "--compare": "make the baseline, too",
    "--comfyui": "address of a ComfyUI",
    "--concurrency": "requests in flight",
    "--count": "how many are drawn at random",
    "--csv": "print as CSV",
    "--all": "print all tables",
    "--data": "pairs or samples",
    "--device": "what it runs on",
    "--dtype": "format of weights",
    "--emphasise": "words with a weight each",
    "--follow": "one number from picture to prompt",
    "--foreground": "source of masks",
    "--exact": "clips whose truth is known",
    "--fps": "frames a second",
    "--frames": "length in frames",
    "--gamma": "strength",
    "--gpus-per-worker": "GPUs of one worker",
    "--guidance": "scale of classifier-free guidance",
    "--half": "half of a data set",
    "--host": "address at which it answers",
    "--image": "reference image",
    "--jobs": "a file of jobs",
    "--json": "print as JSON",
    "--judge": "kind of judge, or kind and model",
    "--judge-device": "what the judge runs on",
    "--judge-model": "the judge's weights",
    "--judge-protocol": "how the judge answers",
    "--limit": "only the first so many",
    "--lora": "weights over a model",
    "--margin": "loss that can be borne",
    "--masks": "folder of masks",
    "--max-pixels": "limit on a reference image",
    "--may-stand-still": "a still video may be right",
    "--metrics": "names of metrics",
    "--minutes": "time for attempts",
    "--model": "a folder or a Hub id",
    "--must-move": "a still video is wrong",
    "--negative-prompt": "what not to show",
    "--observe": "save what attention does",
    "--observe-blocks": "as --blocks, for observing",
    "--observe-steps-window": "as --steps-window, for observing",
    "--offload": "what waits in main memory",
    "--out": "where results go",
    "--pictures": "folder of sheets",
    "--port": "number at which it answers",
    "--preset": "a preset's name or file",
    "--prompt": "what to show",
    "--protocol": "way of asking or measuring",
    "--ratio": "shape",
    "--ray": "a Ray cluster",
    "--recipe": "a recipe as text",
    "--record": "a record to repeat",
    "--revision": "of a Hub model",
    "--run": "folder of a generation",
    "--sam2": "a SAM 2 model",
    "--seed": "of what is drawn",
    "--send": "how frames are sent",
    "--settings": "digest of a judge's settings",
    "--shard": "part of the jobs",
    "--size": "width and height",
    "--steps": "number of denoising steps",
    "--steps-window": "steps at which it acts",
    "--strict": "what must act, acts",
    "--streams": "whose keys are scaled",
    "--tau": "ratio above which a block is chosen",
    "--timeout": "seconds of a request",
    "--token": "what opens a page",
    "--until-followed": "attempts until a judge agrees",
    "--variants": "columns of a benchmark",
    "--version": "of alignvid",
    "--weights": "files of metrics",
    "--words": "words to map",
    "--workers": "how many on Ray",
    "--workflow": "a ComfyUI workflow",
    "--yes": "do not ask",
}
"""Every option of every command, and the one thing that it means. A second name for one of these is a mistake."""

FORMS_THAT_DIFFER = {
    "--answers",  # of one person, or of several
    "--limit",  # the same, of samples or of pairs
    "--protocol",  # each command has its own list
    "--seed",  # a benchmark takes several, with commas
    "--variants",  # `bench run` may be given it twice: each recipe is long
    "--out",  # the demo has a default
    "--judge",
}


def tree(command=cli, path="alignvid"):
    yield path, command
    for name, below in command.commands.items() if isinstance(command, click.Group) else ():
        yield from tree(below, f"{path} {name}")


OPTIONS = [(path, param) for path, command in tree() for param in command.params if isinstance(param, click.Option)]
BY_NAME = defaultdict(list)
for where, item in OPTIONS:
    BY_NAME[item.opts[0]].append((where, item))


@pytest.mark.parametrize(("path", "option"), [pytest.param(*row, id=f"{row[0]} {row[1].name}") for row in OPTIONS])
def test_every_option_has_one_long_name_in_lower_case_and_a_help_text(path, option):
    assert len(option.opts) == 1 and not option.secondary_opts  # no alias without a reason
    (name,) = option.opts
    assert name.startswith("--") and name == name.lower() and "_" not in name
    assert option.help


def test_every_option_is_in_the_list_of_meanings_and_no_meaning_is_there_twice():
    assert set(BY_NAME) == set(MEANINGS)
    assert len(set(MEANINGS.values())) == len(MEANINGS)


@pytest.mark.parametrize("name", sorted(name for name, found in BY_NAME.items() if len(found) > 1))
def test_an_option_of_several_commands_takes_the_same_in_all_of_them(name):
    forms = {(form(option), option.multiple, option.is_flag) for _, option in BY_NAME[name]}
    assert len(forms) == 1 or name in FORMS_THAT_DIFFER


def form(option):
    kind = option.type.inner if isinstance(option.type, Given) else option.type
    return type(kind).__name__, tuple(getattr(kind, "choices", ()))


@pytest.mark.parametrize("name", sorted(FORMS_THAT_DIFFER))
def test_what_may_differ_is_an_option_of_several_commands(name):
    assert len(BY_NAME[name]) > 1


@pytest.mark.parametrize("text", ["832x480", " 832x480", "832×480"])
def test_a_size_is_width_and_height(text):
    assert Size().convert(text, None, None) == (832, 480)


@pytest.mark.parametrize("text", ["832", "832x", "x480", "832*480", "832x480x3", "-1x5", "9" * 5000 + "x1", ""])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(click.BadParameter, match="write for example 832x480"):
        Size().convert(text, None, None)


def test_what_a_command_says_of_another_command_names_options_that_exist():
    """In help texts: `alignvid … --option`."""
    for path, command in tree():
        texts = [
            command.help or "",
            command.epilog or "",
            *(option.help or "" for option in command.params if isinstance(option, click.Option)),
        ]
        for word in " ".join(texts).split():
            name = word.strip("`'\".,;:()").partition("=")[0]
            if name.startswith("--") and len(name) > 2:
                assert name in MEANINGS or name == "--help", (path, name)
