"""ViCLIP (arXiv 2307.06942): CLIP whose image encoder attends over space and time at once, and CLIP's text encoder.

Both encoders are built from transformers' CLIP layers, sized by the checkpoint `ViClip-InternVid-10M-FLT.pth`, whose
names are translated. What differs from CLIP: patches of all frames are one sequence after one class token, every frame
has its own embedding of time, and a prompt is cut at 32 tokens. Weights: MIT.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alignvid.bench.metrics.weights import State, fill, read_state
from alignvid.errors import InputError

MAX_TOKENS = 32
_HEAD_WIDTH = 64

_BLOCK = re.compile(r"^transformer\.resblocks\.(\d+)\.(.+)$")
_JOINT = re.compile(r"^attn\.in_proj_(weight|bias)$")
_IN_BLOCK = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}

VideoPixels = Float[Tensor, "video frame 3 height width"]


class VideoEncoder(nn.Module):
    """ViCLIP's eyes: a video of a fixed number of frames to one vector."""

    def __init__(self, config: Any, frame_count: int) -> None:
        """Sized by a CLIPVisionConfig; `frame_count` embeddings of time."""
        super().__init__()
        from transformers.models.clip.modeling_clip import CLIPEncoder

        width, patch = config.hidden_size, config.patch_size
        self.patches = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros((config.image_size // patch) ** 2 + 1, width))
        self.times = nn.Parameter(torch.zeros(1, frame_count, width))
        self.norm_before = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.encoder = CLIPEncoder(config)
        self.norm_after = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.projection = nn.Linear(width, config.projection_dim, bias=False)

    @property
    def frame_count(self) -> int:
        """Frames that a video must have."""
        return self.times.shape[1]

    def forward(self, videos: VideoPixels) -> Float[Tensor, "video dim"]:
        """One vector per video."""
        count = len(videos)
        patches = self.patches(videos.flatten(0, 1)).flatten(2).transpose(1, 2)  # -> (video * frame, patch, width)
        tokens = (patches + self.positions[1:]).unflatten(0, (count, -1)) + self.times[:, :, None]
        first = (self.class_token + self.positions[:1]).expand(count, 1, -1)
        # The order of tokens after the first does not matter: each carries its place and time.
        hidden = self.norm_before(torch.cat([first, tokens.flatten(1, 2)], dim=1))
        hidden = self.encoder(inputs_embeds=hidden).last_hidden_state
        return self.projection(self.norm_after(hidden[:, 0]))


class ViClip(nn.Module):
    """Both encoders and the tokenizer."""

    def __init__(self, video: VideoEncoder, text: nn.Module, tokenizer: Any) -> None:
        """The parts, with their weights."""
        super().__init__()
        self.video, self.text, self.tokenizer = video, text, tokenizer

    def encode_video(self, frames: Float[Tensor, "frame 3 height width"]) -> Float[Tensor, " dim"]:
        """The vector of one video."""
        return self.video(frames[None])[0]

    def encode_text(self, prompt: str) -> Float[Tensor, " dim"]:
        """The vector of a prompt; what is beyond 32 tokens is cut off."""
        tokens = self.tokenizer(cleaned(prompt), truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        device = next(self.text.parameters()).device
        return self.text(input_ids=tokens["input_ids"].to(device)).text_embeds[0]


def load_viclip(path: Path, tokenizer: Path, device: str) -> ViClip:
    """ViCLIP from its checkpoint and a folder with CLIP's tokenizer, in float32.

    Raises: InputError if one of them is not what it should be.
    """
    state = read_state(path)
    _check(state, path)
    eyes, text = _part(state, "vision_encoder."), _part(state, "text_encoder.")
    video_encoder, text_encoder = _video_encoder(eyes), _text_encoder(text)
    fill(video_encoder, _video_names(eyes), path)
    fill(text_encoder, _text_names(text), path)
    model = ViClip(video_encoder, text_encoder, _tokenizer(tokenizer, text))
    return model.float().to(device).eval()


def cleaned(prompt: str) -> str:
    """The prompt without damage from encodings and HTML, as CLIP's own tokenizer cleans it."""
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(prompt))).split())


def encoder_names(state: State, prefix: str) -> State:
    """The layers of a transformer in OpenAI's naming, under the names of transformers' CLIP encoder."""
    renamed: State = {}
    for name, tensor in state.items():
        if block := _BLOCK.match(name):
            renamed |= _block_names(f"{prefix}layers.{block[1]}.", block[2], tensor)
    return renamed


def _block_names(prefix: str, name: str, tensor: Tensor) -> State:
    if joint := _JOINT.match(name):
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{prefix}self_attn.{kind}_proj.{joint[1]}": part for kind, part in parts}
    module, _, kind = name.rpartition(".")
    return {f"{prefix}{_IN_BLOCK.get(module, module)}.{kind}": tensor}


def _video_names(state: State) -> State:
    return {
        "patches.weight": state["conv1.weight"].squeeze(2),  # a kernel of one frame
        "class_token": state["class_embedding"],
        "positions": state["positional_embedding"],
        "times": state["temporal_positional_embedding"],
        "projection.weight": state["proj"].T.contiguous(),
        **{f"norm_before.{kind}": state[f"ln_pre.{kind}"] for kind in ("weight", "bias")},
        **{f"norm_after.{kind}": state[f"ln_post.{kind}"] for kind in ("weight", "bias")},
        **encoder_names(state, "encoder."),
    }


def _text_names(state: State) -> State:
    return {
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_projection.weight": state["text_projection"].T.contiguous(),
        **{f"text_model.final_layer_norm.{kind}": state[f"ln_final.{kind}"] for kind in ("weight", "bias")},
        **encoder_names(state, "text_model.encoder."),
    }


def _video_encoder(state: State) -> VideoEncoder:
    from transformers import CLIPVisionConfig

    width, _, _, _, patch = state["conv1.weight"].shape
    side = round((len(state["positional_embedding"]) - 1) ** 0.5)
    config = CLIPVisionConfig(
        **_layer_sizes(state, width), patch_size=patch, image_size=side * patch, projection_dim=state["proj"].shape[1]
    )
    return VideoEncoder(config, state["temporal_positional_embedding"].shape[1])


def _text_encoder(state: State) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    vocabulary, width = state["token_embedding.weight"].shape
    config = CLIPTextConfig(
        **_layer_sizes(state, width),
        vocab_size=vocabulary,
        max_position_embeddings=len(state["positional_embedding"]),
        projection_dim=state["text_projection"].shape[1],
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,  # its vector is the prompt's
    )
    return CLIPTextModelWithProjection(config)


def _layer_sizes(state: State, width: int) -> dict[str, Any]:
    blocks = {match[1] for name in state if (match := _BLOCK.match(name))}
    return {
        "hidden_size": width,
        "intermediate_size": len(state["transformer.resblocks.0.mlp.c_fc.weight"]),
        "num_hidden_layers": len(blocks),
        "num_attention_heads": width // _HEAD_WIDTH,
        "hidden_act": "quick_gelu",
        "attn_implementation": "sdpa",  # said here, as layers outside a model of transformers choose none
    }


def _tokenizer(path: Path, text: State) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"Tokenizer {str(path)!r} cannot be loaded ({reason}); give a folder of CLIP.") from error
    if (last := len(text["token_embedding.weight"]) - 1) != tokenizer.eos_token_id:
        raise InputError(
            f"Tokenizer {str(path)!r} ends a text with token {tokenizer.eos_token_id}, this ViCLIP with {last}; "
            "give CLIP's tokenizer."
        )
    return tokenizer


def _part(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _check(state: State, path: Path) -> None:
    needed = ("vision_encoder.temporal_positional_embedding", "text_encoder.text_projection")
    for name in needed:
        if name not in state:
            raise InputError(f"Weights {str(path)!r} have no {name}; give ViClip-InternVid-10M-FLT.pth.")
