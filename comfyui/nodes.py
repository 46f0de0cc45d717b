"""The nodes: forms over alignvid. Loaded by ComfyUI alone, whose interface they use."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from comfy_api.latest import ComfyExtension, io, ui

from alignvid.errors import AlignvidError
from alignvid.presets import load
from alignvid.recipe import Recipe

from .patch import patch_of, patched
from .report import report_of
from .settings import AS_PRESET, AUTO, BRANCHES, STRENGTHS, attached, in_part, preset_names, problem_of, recipe_from
from .watch import heard_by, watch_of, watched

CATEGORY = "alignvid"
RecipeIO = io.Custom("ALIGNVID_RECIPE")
_GAMMA_TIP = "Factor on the attention logits; above 1 the prompt is followed more. Used where strength is gamma."
_FOLLOW_TIP = "From -1, the picture, to 1, the prompt; 0 leaves the model as it is. Used where strength is follow."
_STEPS_TIP = (
    "Empty: the preset's, as noise levels where a sampler runs a part of a schedule. 0.0-0.3 in fractions of the steps "
    "of this sampler, noise>0.9, noise:0.6-0.9, or all."
)
_BLOCKS_TIP = 'Empty: the preset\'s. 0,2-7, first-half, last-half, all; by stack {"single_blocks": "0-9"}.'
_STREAMS_TIP = "Empty: the preset's. text, image; or powers of gamma: cross.text=2, cross.image=1."


@contextmanager
def _said_on_the_node() -> Iterator[None]:
    """ComfyUI shows the message of an error on its node."""
    try:
        yield
    except AlignvidError as error:
        raise ValueError(str(error)) from None


def _show(text: str, node: Any) -> None:
    """On a node of the page, where one looks on: of `ui.PreviewText` it shows what its own nodes say alone."""
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    number = getattr(node.hidden, "unique_id", None)
    if server is not None and number is not None:
        server.send_progress_text(text, number)


def _after_sampling() -> list[Any]:
    """Inputs of a node that shows what a run did."""
    return [
        io.Model.Input("model", tooltip="The MODEL that the sampler was given."),
        io.AnyType.Input("after", tooltip="What the sampler gave, a LATENT mostly; passed on as it is."),
    ]


class AlignVid(io.ComfyNode):
    """MODEL -> MODEL: makes it follow its prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """As ComfyUI asks for it."""
        return io.Schema(
            node_id="AlignVid",
            display_name="AlignVid",
            category=CATEGORY,
            description=(
                "Makes a video or picture model follow its prompt better, without training: attention to the prompt "
                "is scaled in chosen blocks and steps. Between the loader and the sampler, before or after LoRAs."
            ),
            inputs=[
                io.Model.Input("model", tooltip="A MODEL of a core loader. It is left as it is; use the output."),
                io.Combo.Input(
                    "preset",
                    options=preset_names(),
                    default=AUTO,
                    tooltip="auto: found from the model's blocks, heads and width; generic where it has none.",
                ),
                io.Combo.Input(
                    "strength",
                    options=list(STRENGTHS),
                    default=AS_PRESET,
                    tooltip="preset: as the preset says. gamma: that number. follow: that number in place of a preset.",
                ),
                io.Float.Input("gamma", default=1.35, min=-1e6, max=1e6, step=0.05, tooltip=_GAMMA_TIP),
                io.Float.Input("follow", default=0.5, min=-1e6, max=1e6, step=0.05, tooltip=_FOLLOW_TIP),
                io.String.Input("blocks", default="", tooltip=_BLOCKS_TIP),
                io.String.Input("steps", default="", tooltip=_STEPS_TIP),
                io.String.Input("streams", default="", tooltip=_STREAMS_TIP),
                io.Combo.Input(
                    "branch",
                    options=list(BRANCHES),
                    default=AS_PRESET,
                    tooltip="Pass of classifier-free guidance: both, that of the positive (cond) or negative prompt.",
                ),
                io.Boolean.Input(
                    "measure",
                    default=False,
                    tooltip="Measure in each run by how much attention moved, for AlignVid Report: one forward more.",
                ),
                RecipeIO.Input("recipe", optional=True, tooltip="From AlignVid Recipe; in place of the preset."),
            ],
            outputs=[
                io.Model.Output(tooltip="The MODEL to sample with."),
                io.String.Output("summary", display_name="summary", tooltip="What acts where and when."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        strength: str = AS_PRESET,
        gamma: float | None = None,
        follow: float | None = None,
        blocks: str = "",
        steps: str = "",
        streams: str = "",
        branch: str = AS_PRESET,
    ) -> bool | str:
        """What can be known without the model, before anything runs."""
        problem = problem_of(
            strength=strength, gamma=gamma, follow=follow, blocks=blocks, steps=steps, streams=streams, branch=branch
        )
        return problem or True

    @classmethod
    def execute(
        cls, model: Any, preset: str, measure: bool = False, recipe: Recipe | None = None, **widgets: Any
    ) -> io.NodeOutput:
        """A clone of the MODEL with an attachment in its forwards."""
        is_preset = recipe is None and not (widgets.get("steps") or "").strip()
        with _said_on_the_node():
            clone, patch = patched(
                model,
                lambda lent: attached(lent, preset, recipe, proof=measure, **widgets),
                measures=measure,
                in_part=in_part(preset, proof=measure, **widgets) if is_preset else None,
            )
        return io.NodeOutput(clone, str(patch.attachment))


class AlignVidRecipe(io.ComfyNode):
    """A recipe: of a preset, or pasted."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """As ComfyUI asks for it."""
        return io.Schema(
            node_id="AlignVidRecipe",
            display_name="AlignVid Recipe",
            category=CATEGORY,
            description=(
                "A recipe for AlignVid: what acts, where and when. Take a preset's and change it, or paste one as "
                "JSON: a gain, a log-bias, conflict-aware scaling and others, or several at once. It is saved with the "
                "workflow in what you save."
            ),
            inputs=[
                io.Combo.Input(
                    "preset", options=preset_names()[1:], default="generic:generic", tooltip="Where no text is pasted."
                ),
                io.String.Input("text", default="", multiline=True, tooltip="A recipe as JSON; empty: the preset's."),
            ],
            outputs=[
                RecipeIO.Output(tooltip="For AlignVid."),
                io.String.Output("json", display_name="json", tooltip="The recipe as JSON, to change and paste."),
            ],
        )

    @classmethod
    def validate_inputs(cls, text: str = "") -> bool | str:
        """A pasted text must be a recipe."""
        return problem_of(recipe_text=text.strip()) or True

    @classmethod
    def execute(cls, preset: str, text: str = "") -> io.NodeOutput:
        """The recipe, and its JSON."""
        with _said_on_the_node():
            recipe = recipe_from(text) if text.strip() else load(preset).recipe
        return io.NodeOutput(recipe, json.dumps(recipe.to_dict(), indent=2))


class AlignVidReport(io.ComfyNode):
    """What acted in the last run; an error if nothing did."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """As ComfyUI asks for it."""
        return io.Schema(
            node_id="AlignVidReport",
            display_name="AlignVid Report",
            category=CATEGORY,
            description=(
                "What AlignVid did in the run that gave `after`: steps, blocks, how often, and by how much attention "
                "moved if the AlignVid node measures. An error if nothing acted."
            ),
            inputs=_after_sampling(),
            outputs=[
                io.AnyType.Output("passed", display_name="after", tooltip="What came in."),
                io.String.Output("report", display_name="report", tooltip="In words."),
                io.String.Output("data", display_name="data", tooltip="As JSON."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, model: Any, after: Any) -> io.NodeOutput:
        """Words on the node, and data."""
        with _said_on_the_node():
            words, data = report_of(patch_of(model))
        _show(words, cls)
        return io.NodeOutput(after, words, json.dumps(data, indent=2), ui=ui.PreviewText(words))


class AlignVidObserve(io.ComfyNode):
    """MODEL -> MODEL: what its attention does is overheard."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """As ComfyUI asks for it."""
        return io.Schema(
            node_id="AlignVidObserve",
            display_name="AlignVid Observe",
            category=CATEGORY,
            description=(
                "Overhears what attention does in each block at each step, with AlignVid or without: its entropy, and "
                "the share that goes to the prompt's words. Slower; for AlignVid Observed, which shows it."
            ),
            inputs=[io.Model.Input("model", tooltip="Before or after AlignVid. It is left as it is; use the output.")],
            outputs=[io.Model.Output(tooltip="The MODEL to sample with.")],
        )

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        """A clone of the MODEL with a watch in its forwards."""
        with _said_on_the_node():
            return io.NodeOutput(watched(model))


class AlignVidObserved(io.ComfyNode):
    """What was overheard in the last run, as a picture and as data."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """As ComfyUI asks for it."""
        return io.Schema(
            node_id="AlignVidObserved",
            display_name="AlignVid Observed",
            category=CATEGORY,
            description=(
                "What AlignVid Observe overheard in the run that gave `after`: blocks by steps, entropy on the left, "
                "the share of the prompt's words on the right."
            ),
            inputs=_after_sampling(),
            outputs=[
                io.AnyType.Output("passed", display_name="after", tooltip="What came in."),
                io.Image.Output("picture", display_name="picture", tooltip="For Preview Image or Save Image."),
                io.String.Output("data", display_name="data", tooltip="As JSON, a row for each softmax of each step."),
            ],
        )

    @classmethod
    def execute(cls, model: Any, after: Any) -> io.NodeOutput:
        """The picture and the rows."""
        from .plot import picture

        with _said_on_the_node():
            heard = heard_by(watch_of(model))
        return io.NodeOutput(after, picture(heard), json.dumps([item._asdict() for item in heard]))


class AlignVidMiniature(io.ComfyNode):
    """MODEL, CLIP, CLIP_VISION and VAE of the embedded miniature."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """As ComfyUI asks for it."""
        return io.Schema(
            node_id="AlignVidMiniature",
            display_name="AlignVid Miniature",
            category=CATEGORY,
            description=(
                "A complete Wan 2.1 image-to-video model of 4 million parameters, trained on made scenes, without a "
                "download: to see AlignVid act in seconds on any machine. It proves nothing about large models. "
                'Needs pip install "alignvid[generate]".'
            ),
            inputs=[],
            outputs=[
                io.Model.Output("model", tooltip="Its transformer, in ComfyUI's own Wan code."),
                io.Clip.Output("clip", tooltip="Its text encoder, for CLIPTextEncode."),
                io.ClipVision.Output("clip_vision", tooltip="Its vision encoder, for CLIPVisionEncode."),
                io.Vae.Output("vae", tooltip="Its autoencoder, for WanImageToVideo and VAEDecode."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Loaded on the CPU."""
        from .miniature import load

        with _said_on_the_node():
            return io.NodeOutput(*load())


class Extension(ComfyExtension):
    """The nodes of this pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """As ComfyUI asks for it."""
        return [AlignVid, AlignVidRecipe, AlignVidReport, AlignVidObserve, AlignVidObserved, AlignVidMiniature]
