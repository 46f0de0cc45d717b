"""Options that several commands have: one name, one type and one meaning in all of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click


class Size(click.ParamType):
    """WIDTHxHEIGHT."""

    name = "widthxheight"
    _FORM = re.compile(r"([0-9]{1,9})[x×]([0-9]{1,9})")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Both sides; whether a model can have them is found out later."""
        if isinstance(value, tuple):
            return value
        if (match := self._FORM.fullmatch(str(value).strip())) is None:
            self.fail(f"{value!r} is none; write for example 832x480.", param, ctx)
        return int(match[1]), int(match[2])


SPEC_OPTIONS = {
    "model": click.option("--model", help='"miniature" (default), "miniature-4-step", a diffusers folder, or a Hub id.'),
    "image": click.option("--image", help="Reference image; leave out for a text-to-video model."),
    "prompt": click.option("--prompt", help="What the video should show."),
    "negative-prompt": click.option("--negative-prompt", help="What it should not show; acts with a guidance above 1."),
    "preset": click.option(
        "--preset", help="A preset's name, or a preset's or recipe's .toml file; found from the model unless given."
    ),
    "recipe": click.option(
        "--recipe",
        help='In place of a preset and the next five: "gamma=1.5 steps-window=0.0-0.3"; of several modulations '
        '"streams=text & kind=energy streams=image". Lists with +: blocks=0+2-7.',
    ),
    "gamma": click.option("--gamma", type=float, help="Strength of AlignVid; 1 changes nothing, the paper uses 1.35."),
    "steps-window": click.option("--steps-window", help='When: "0.0-0.3" of the steps, "noise>0.9", or "all".'),
    "blocks": click.option("--blocks", help='Where: "all", "first-half", "0,2-7", or "stack=0-7;other_stack=all".'),
    "streams": click.option(
        "--streams", help='Whose keys are scaled: "text", "text,image", …; see `alignvid inspect`.'
    ),
    "branch": click.option(
        "--branch", type=click.Choice(["both", "cond", "uncond"]), help="Pass of guidance in which it acts."
    ),
    "follow": click.option(
        "--follow", type=float, help="One number in place of preset, gamma and streams: -1 the picture, 1 the prompt."
    ),
    "emphasise": click.option(
        "--emphasise", help='Words of the prompt with a weight each, beside the recipe: "sunglasses:1.6, red:1.3".'
    ),
    "seed": click.option("--seed", type=int, help="Of the initial noise; 0 unless given."),
    "steps": click.option("--steps", type=int, help="Denoising steps."),
    "guidance": click.option("--guidance", type=float, help="Scale of classifier-free guidance."),
    "cfg-high": click.option(
        "--cfg-high", type=int, help="Steps with guidance, from the first one on; all unless given."
    ),
    "size": click.option("--size", type=Size(), help="In multiples of 16; the shape of the image unless given."),
    "frames": click.option("--frames", type=int, help="Length of the video in frames."),
    "fps": click.option("--fps", type=float, help="Frames a second of the file."),
    "device": click.option("--device", help="cpu, cuda, cuda:1 or mps; the best one here unless given."),
    "dtype": click.option(
        "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="Format of the weights."
    ),
    "offload": click.option(
        "--offload", type=click.Choice(["none", "model", "sequential"]), help="What waits in main memory."
    ),
    "max-pixels": click.option("--max-pixels", type=int, help="Limit on a reference image; 50 million unless given."),
}
"""Fields of what is generated, in the order of a help text."""


RAY_OPTIONS = (
    click.option("--ray", help='Run on Ray\'s workers: "local", "auto" or a cluster\'s address.'),
    click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="How many; with --ray."),
    click.option(
        "--gpus-per-worker",
        type=click.FloatRange(min=0),
        default=0.0,
        show_default=True,
        help="0.5: two on one; with --ray.",
    ),
)
"""Where many jobs run."""


def spec_options(*names: str) -> Callable[[Any], Any]:
    """Options for these fields of the spec, in this order; for all of them if none is named."""

    def add(command: Any) -> Any:
        for name in reversed(names or tuple(SPEC_OPTIONS)):
            command = SPEC_OPTIONS[name](command)
        return command

    return add


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Fields of a spec from the options that were given; a size is two of them."""
    fields = {name: value for name, value in options.items() if value is not None and name != "size"}
    if options.get("size") is not None:
        fields["width"], fields["height"] = options["size"]
    return fields
