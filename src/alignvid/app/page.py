"""What stands on the page, and what each part of it calls."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import gradio as gr

from alignvid import presets
from alignvid.app import views
from alignvid.app.api import add_api
from alignvid.app.desk import Desk
from alignvid.app.form import PRESET, SLIDER
from alignvid.app.turns import quick, waiting
from alignvid.app.workshop import Workshop

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
_MONO = ("ui-monospace", "Consolas", "monospace")
THEME = gr.themes.Default(primary_hue="blue", neutral_hue="zinc", font=_SANS, font_mono=_MONO)
"""Fonts that are there: none is fetched."""
STYLE = (files("alignvid.app") / "page.css").read_text(encoding="utf-8")

_UPLOADS_S = (3_600, 86_400)
"""Every hour what was uploaded a day ago goes; a run has its own copy."""
_LEAD = (
    "# alignvid\nA video that follows its prompt: the same noise without and with attention scaled, "
    "beside each other. No training, no second model."
)


_QUESTIONS = "Does the cat wear sunglasses?\nrest: Is the sofa still there?"
_NO_QUESTIONS = "One on each line; empty: the judge's own"


def build(shop: Workshop, desk: Desk) -> gr.Blocks:
    """The page over a workshop."""
    with gr.Blocks(title="alignvid", analytics_enabled=False, fill_width=True, delete_cache=_UPLOADS_S) as page:
        add_api(shop)
        gr.Markdown(_LEAD, elem_classes="av-lead")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                asked = _asked(shop, desk)
                with gr.Row():
                    make = gr.Button("Make the video", variant="primary", elem_id="make", min_width=120)
                    cancel = gr.Button("Cancel", elem_id="cancel", min_width=80)
                with gr.Accordion("Until it is followed", open=False, elem_id="loop"):
                    gr.Markdown("New noise in each attempt, and a judge asked after it, until all is right.")
                    budget = gr.Slider(1, 20, 6, step=1, label="Most attempts", elem_id="budget")
                    questions = gr.Textbox(label="Questions", lines=2, placeholder=_QUESTIONS, info=_NO_QUESTIONS)
                    until = gr.Button("Make attempts until it is followed", variant="primary", elem_id="until")
                with gr.Accordion("Settings", open=False):
                    settings, compare = _settings(shop)
            with gr.Column(scale=3, min_width=320):
                status = gr.HTML(elem_id="status")
                result = gr.HTML(views.result(None), js_on_load=views.ON_CLICK, elem_id="result")
                look = gr.HTML(js_on_load=views.ON_CLICK, elem_id="look")
                history = gr.HTML(views.history(None), js_on_load=views.ON_CLICK, elem_id="history")
        current, form = gr.State(""), [*asked, *settings]
        shown = [status, result, look, history, current]
        runs: list[Any] = [  # what Gradio declares here are dicts, and events are what it takes
            make.click(desk.make, [compare, *form], shown, **waiting(shows=status)),
            until.click(desk.follow, [questions, budget, *form], shown, **waiting(shows=status)),
            look.click(desk.look, current, shown, **waiting(shows=status)),
            result.submit(desk.repeat, None, shown, **waiting(shows=status)),
            history.submit(desk.repeat, None, shown, **waiting(shows=status)),
        ]
        cancel.click(desk.cancel, None, status, cancels=runs, **quick())
        history.click(desk.open, None, shown, **quick())
        page.load(desk.history, None, history, **quick())
    return page.queue(default_concurrency_limit=4)


def _asked(shop: Workshop, desk: Desk) -> tuple[Any, ...]:
    """Picture, prompt, strength, slider and words: the first of `desk.FIELDS`."""
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
    number, buttons = gr.State(0), gr.HTML(js_on_load=views.ON_CLICK, elem_id="words-to-pick")
    strength = gr.Radio(
        [("The model's own preset", PRESET), ("The slider", SLIDER)], value=PRESET, label="How strongly", elem_id="how"
    )
    follow = gr.Slider(
        -1, 1, 0.5, step=0.05, label="Follow", info="−1 keeps the picture, 1 follows the prompt", elem_id="follow"
    )
    words = gr.Textbox(
        label="Words to emphasise",
        placeholder="sunglasses:1.6, red hat:1.3",
        info="A weight each: above 1 more of it, below 1 less",
        elem_id="words",
    )
    follow.input(lambda: SLIDER, None, strength, **quick())
    picture.change(desk.check, picture, checked, **quick())
    for field in (prompt, words):
        field.input(views.words_to_pick, [prompt, words], buttons, trigger_mode="always_last", **quick())
    buttons.click(desk.pick, [words, prompt], [words, buttons], **quick())
    scene.click(desk.scene, number, [picture, prompt, number, buttons, words], **quick())
    return picture, prompt, strength, follow, words


def _settings(shop: Workshop) -> tuple[tuple[Any, ...], gr.Checkbox]:
    """The other fields, which a model answers itself where they are empty; and whether to compare."""
    own = "the model's own"
    preset = gr.Dropdown([(own, ""), *presets.names()], value="", label="Preset", elem_id="preset")
    model = gr.Textbox(label="Model", placeholder=shop.model_name, info="miniature, a folder, or an id on the Hub")
    negative_prompt = gr.Textbox(label="Negative prompt", info="Acts with a guidance above 1")
    small = {"min_width": 120, "placeholder": own}
    with gr.Row():
        seed, steps = gr.Textbox("0", label="Seed", min_width=120), gr.Textbox(label="Steps", elem_id="steps", **small)
    with gr.Row():
        guidance, frames = gr.Textbox(label="Guidance", **small), gr.Textbox(label="Frames", **small)
    size = gr.Textbox(label="Size", placeholder="832x480; the model's own, in the shape of the picture")
    compare = gr.Checkbox(True, label="Also without AlignVid, to compare (takes as long again)")
    return (preset, model, negative_prompt, seed, steps, guidance, size, frames), compare
