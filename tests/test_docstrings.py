"""Examples in docstrings are run as they stand; `pipe` is the miniature, `image` its first example, `size` its size."""

import doctest
from pathlib import Path

import pytest
from PIL import Image

import alignvid
from alignvid import presets
from alignvid.miniature import load_pipeline

PICTURE = Path(__file__).parent.parent / "examples" / "scene-1.png"
SIZE = {"height": 80, "width": 80, "num_frames": 9, "num_inference_steps": 4, "guidance_scale": 1.0}
NEEDS_A_MODEL = {"Attachment", "Trace", "attach", "detach", "follow", "observe", "preset_for"}
DOCUMENTED = {**{name: getattr(alignvid, name) for name in alignvid.__all__}, "Preset": presets.Preset}


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_the_example_in_the_docstring_runs_as_it_stands(name):
    names = {public: getattr(alignvid, public) for public in alignvid.__all__} | {"alignvid": alignvid}
    if name in NEEDS_A_MODEL:
        names |= {"pipe": load_pipeline(), "image": Image.open(PICTURE).convert("RGB"), "size": SIZE}
    example = doctest.DocTestParser().get_doctest(DOCUMENTED[name].__doc__, names, name, None, 0)
    said: list[str] = []
    ran = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert ran.attempted >= 2
    assert ran.failed == 0, "".join(said)
