"""OmniGen: one stack of a language model's blocks over [text | video], without norms on the keys.

The gain acts on the keys' projection. Reference pictures lie inside the text, where their placeholders stand, elsewhere
in each sample: they count as text. The generated picture begins with the token of the timestep. All passes of
guidance are one batch, the conditional one first; with reference pictures a third one sees these without the prompt,
which makes it an unconditional one. Timesteps ascend from 0 at pure noise to 1.
"""

from __future__ import annotations

from typing import Any

from alignvid.models.family import Arguments, Family, KeyNorm, Reads, Site, Stack, Time
from alignvid.models.reading.shapes import picture_counts

_SINGLE = Site("single", "self_attn", (KeyNorm("to_k", ("text", "video"), is_projection=True),))


def token_counts(transformer: Any, arguments: Arguments) -> dict[str, int]:
    """Video tokens and the one of the time from the latents; the rest is text with its pictures, padding included."""
    return {"video": 1 + picture_counts(transformer, arguments)["video"]}


def batch_order(arguments: Arguments) -> tuple[str, ...]:
    """Three passes where pictures lie in the last third of the batch, else two."""
    samples, with_pictures = len(arguments["hidden_states"]), arguments["input_image_sizes"] or ()
    has_third = any(3 * sample >= 2 * samples for sample in with_pictures)
    return ("cond", "uncond", "uncond") if has_third else ("cond", "uncond")


WORDS_REFUSAL = "its transformer reads the prompt's tokens itself, without a text encoder."


FAMILY = Family(
    name="omnigen",
    transformers=("OmniGenTransformer2DModel",),
    pipelines=("OmniGenPipeline",),
    stacks=(Stack("layers", (_SINGLE,)),),
    reads=Reads(words_refusal=WORDS_REFUSAL, token_counts=token_counts),
    time=Time(text="input_ids", scale=1.0, is_ascending=True, batch_order=batch_order),
)
