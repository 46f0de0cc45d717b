"""What stands on the page, and what each part of it calls."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, NamedTuple

import gradio as gr

from alignvid import presets
from alignvid.app import views
from alignvid.app.api import add_api
from alignvid.app.desk import Desk
from alignvid.app.form import PRESET, SLIDER, STRENGTHS
from alignvid.app.turns import quick, waiting
from alignvid.app.workshop import Workshop

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
_MONO = ("ui-monospace", "Consolas", "monospace")
THEME = gr.themes.Default(primary_hue="blue", neutral_hue="zinc", font=_SANS, font_mono=_MONO)
"""Fonts that are there: none is fetched."""
STYLE = (files("alignvid.app") / "page.css").read_text(encoding="utf-8")

_LEAD = (
    "# alignvid\nA video that follows its prompt: the same noise without and with attention scaled, "
    "beside each other. No training, no second model."
)


_QUESTIONS = "Does the cat wear sunglasses?\nrest: Is the sofa still there?"
_NO_QUESTIONS = "One on each line; empty: the judge's own"


class _Form(NamedTuple):
    """The fields, in the order of `desk.FIELDS`."""

    picture: gr.Image
    prompt: gr.Textbox
    strength: gr.Radio
    follow: gr.Slider
    words: gr.Textbox
    preset: gr.Dropdown
    model: gr.Textbox
    negative_prompt: gr.Textbox
    seed: gr.Number
    steps: gr.Number
    guidance: gr.Number
    size: gr.Textbox
    frames: gr.Number


def build(shop: Workshop, desk: Desk) -> gr.Blocks:
    """The page over a workshop."""
    with gr.Blocks(title="alignvid", analytics_enabled=False, fill_width=True) as page:
        gr.Markdown(_LEAD, elem_classes="av-lead")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                form = _form(shop, desk)
                compare = gr.Checkbox(True, label="Also without AlignVid, to compare (takes as long again)")
                with gr.Row():
                    make = gr.Button("Make the video", variant="primary", elem_id="make")
                    until = gr.Button("Until it is followed", elem_id="until")
                    cancel = gr.Button("Cancel", elem_id="cancel")
                with gr.Accordion("Until it is followed: new noise each time, and a judge asked", open=False):
                    budget = gr.Slider(1, 20, 6, step=1, label="Most attempts", elem_id="budget")
                    questions = gr.Textbox(label="Questions", lines=2, placeholder=_QUESTIONS, info=_NO_QUESTIONS)
            with gr.Column(scale=3, min_width=320):
                status = gr.HTML(elem_id="status")
                result = gr.HTML(views.result(None), js_on_load=views.ON_CLICK, elem_id="result")
                look = gr.HTML(js_on_load=views.ON_CLICK, elem_id="look")
                gr.Markdown("## History")
                history = gr.HTML(js_on_load=views.ON_CLICK, elem_id="history")
        current = gr.State("")
        shown = [status, result, look, history, current]
        runs = [
            make.click(desk.make, [compare, *form], shown, **waiting()),
            until.click(desk.follow, [questions, budget, *form], shown, **waiting()),
            look.click(desk.look, current, shown, **waiting()),
            result.click(desk.open, None, shown, **waiting()),
            history.click(desk.open, None, shown, **waiting()),
        ]
        cancel.click(desk.cancel, None, status, cancels=runs, **quick())
        page.load(desk.history, None, history, **quick())
        add_api(shop)
    return page.queue(default_concurrency_limit=4)


def _form(shop: Workshop, desk: Desk) -> _Form:
    picture = gr.Image(
        label="Picture",
        type="filepath",
        image_mode=None,
        format="png",
        sources=["upload", "clipboard"],
        height=240,
        elem_id="picture",
    )
    picture.preprocess = lambda payload: payload and payload.path  # we read it ourselves, with our limits and words
    checked = gr.HTML(elem_id="checked")
    prompt = gr.Textbox(label="Prompt", lines=2, placeholder="the cat puts on sunglasses", elem_id="prompt")
    scene = gr.Button("Try a made scene", size="sm", elem_id="scene", visible=shop.model_name == "miniature")
    number = gr.State(0)
    buttons = gr.HTML(js_on_load=views.ON_CLICK, elem_id="words-to-pick")
    words = gr.Textbox(
        label="Words to emphasise", placeholder="sunglasses:1.6, red hat:1.3", info="A weight each; above 1 more."
    )
    strength = gr.Radio(
        [("The model's own preset", PRESET), ("The slider", SLIDER)], value=STRENGTHS[0], label="How strongly"
    )
    follow = gr.Slider(-1, 1, 0.5, step=0.05, label="Follow", info="−1 keeps the picture, 1 follows the prompt")
    with gr.Accordion("Settings", open=False):
        form = _Form(picture, prompt, strength, follow, words, *_settings(shop))
    follow.input(lambda: SLIDER, None, strength, **quick())
    picture.change(desk.check, picture, checked, **quick())
    for field in (prompt, words):
        field.input(views.words_to_pick, [prompt, words], buttons, trigger_mode="always_last", **quick())
    buttons.click(desk.pick, [words, prompt], [words, buttons], **quick())
    scene.click(desk.scene, number, [picture, prompt, number, buttons, words], **quick())
    return form


def _settings(shop: Workshop) -> tuple[Any, ...]:
    """Fields that a model answers itself where they are empty."""
    return (
        gr.Dropdown([("the model's own", ""), *presets.names()], value="", label="Preset", allow_custom_value=False),
        gr.Textbox(label="Model", placeholder=shop.model_name, info="miniature, a folder, or an id on the Hub"),
        gr.Textbox(label="Negative prompt", info="Acts with a guidance above 1"),
        gr.Number(0, label="Seed", precision=0, minimum=0),
        gr.Number(None, label="Steps", precision=0, minimum=1, elem_id="steps"),
        gr.Number(None, label="Guidance", minimum=0),
        gr.Textbox(label="Size", placeholder="832x480"),
        gr.Number(None, label="Frames", precision=0, minimum=1),
    )
