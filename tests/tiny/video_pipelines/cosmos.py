"""Cosmos 1, 2 and 2.5, and Anima, which makes pictures with the transformer of Cosmos."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    AnimaAutoBlocks,
    AnimaTextConditioner,
    AutoencoderKLCosmos,
    AutoencoderKLWan,
    ClassifierFreeGuidance,
    Cosmos2_5_PredictBasePipeline,
    Cosmos2_5_TransferPipeline,
    Cosmos2TextToImagePipeline,
    Cosmos2VideoToWorldPipeline,
    CosmosControlNetModel,
    CosmosTextToWorldPipeline,
    CosmosTransformer3DModel,
    CosmosVideoToWorldPipeline,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.models.transformers import transformer_cosmos
from diffusers.pipelines.cosmos import (
    pipeline_cosmos2_5_predict,
    pipeline_cosmos2_5_transfer,
    pipeline_cosmos2_text2image,
    pipeline_cosmos2_video2world,
    pipeline_cosmos_text2world,
    pipeline_cosmos_video2world,
)
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3Model

from image_pipelines import qwen_vae
from model_folders import build_tokenizer
from pipelines import WAN_VAE, Built, flow_match_euler, picture, ready, unipc

TEXT_TOKENS = 16
WIDTH = 32  # of the text embeddings


def resize(picture: Tensor, size: list[int], interpolation: str) -> Tensor:
    return nn.functional.interpolate(picture, size, mode=interpolation)


if not hasattr(transformer_cosmos, "transforms"):  # torchvision is not installed; the model takes one function of it
    transformer_cosmos.transforms = SimpleNamespace(
        functional=SimpleNamespace(resize=resize), InterpolationMode=SimpleNamespace(NEAREST="nearest")
    )


class NothingIsUnsafe(nn.Module):
    """In the place of Cosmos' guardrails, which are models of gigabytes."""

    def __init__(self) -> None:
        super().__init__()
        self._dtype = torch.float32

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, video: Any) -> Any:
        return video

    def to(self, *_: Any, **__: Any) -> NothingIsUnsafe:
        return self

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype


for _module in (
    pipeline_cosmos_text2world,
    pipeline_cosmos_video2world,
    pipeline_cosmos2_text2image,
    pipeline_cosmos2_video2world,
    pipeline_cosmos2_5_predict,
    pipeline_cosmos2_5_transfer,
):
    _module.CosmosSafetyChecker = NothingIsUnsafe


def cosmos1_t2w() -> Built:
    torch.manual_seed(0)
    return ready(_cosmos1(CosmosTextToWorldPipeline, in_channels=4)), _call()


def cosmos1_v2w() -> Built:
    """The reference is the clean first latent frame."""
    torch.manual_seed(0)
    return ready(_cosmos1(CosmosVideoToWorldPipeline, in_channels=4 + 1)), _call(image=picture(64, 32))


def cosmos2_t2i() -> Built:
    torch.manual_seed(0)
    pipe = _cosmos2(Cosmos2TextToImagePipeline, in_channels=16, scheduler=_karras())
    call = _call()
    del call["num_frames"]
    return ready(pipe), call


def cosmos2_v2w() -> Built:
    """The reference is the clean first latent frame."""
    torch.manual_seed(0)
    pipe = _cosmos2(Cosmos2VideoToWorldPipeline, in_channels=16 + 1, scheduler=_karras())
    return ready(pipe), _call(image=picture(64, 32))


def cosmos25_t2w() -> Built:
    torch.manual_seed(0)
    pipe = _cosmos2(Cosmos2_5_PredictBasePipeline, in_channels=16 + 1, scheduler=unipc(flow_shift=5.0))
    return ready(pipe), _call()


def cosmos25_transfer() -> Built:
    """A control video, by blocks of a ControlNet; chunk by chunk, each on the last frame of the one before."""
    torch.manual_seed(0)
    controlnet = CosmosControlNetModel(
        n_controlnet_blocks=2,
        in_channels=16 + 1 + 1,
        latent_channels=16 + 1 + 1,
        model_channels=32,
        num_attention_heads=2,
        attention_head_dim=16,
        mlp_ratio=2,
        text_embed_dim=WIDTH,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
    )
    pipe = Cosmos2_5_TransferPipeline(
        None,
        None,
        _transformer(in_channels=16 + 1, out_channels=16, extra_pos_embed_type=None, controlnet_block_every_n=2),
        AutoencoderKLWan(**WAN_VAE),
        unipc(flow_shift=5.0),
        controlnet,
        NothingIsUnsafe(),
    )
    return ready(pipe), _call(controls=[picture(64, 32)] * 9, num_frames=9, num_frames_per_chunk=5)


def cosmos25_v2w() -> Built:
    """A given video of five frames: two clean latent frames."""
    pipe, call = cosmos25_t2w()
    return pipe, call | {"video": [picture(64, 32)] * 5}


def anima() -> Built:
    """A modular pipeline without its decoder. Texts of any length are padded to one; the model attends to that."""
    torch.manual_seed(0)
    blocks, tokenizer = AnimaAutoBlocks(), build_tokenizer()
    blocks.sub_blocks.pop("decode")
    pipe = blocks.init_pipeline()
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    language = Qwen3Config(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, **layers)
    sizes = {"source_dim": 16, "target_dim": WIDTH, "model_dim": 16, "num_layers": 1, "num_attention_heads": 2}
    pipe.update_components(
        text_encoder=Qwen3Model(language),
        tokenizer=tokenizer,
        t5_tokenizer=tokenizer,
        text_conditioner=AnimaTextConditioner(
            **sizes, target_vocab_size=len(tokenizer), min_sequence_length=TEXT_TOKENS
        ),
        transformer=_transformer(in_channels=4, out_channels=4, extra_pos_embed_type=None),
        vae=qwen_vae(),
        scheduler=flow_match_euler(shift=3.0),
        guider=ClassifierFreeGuidance(guidance_scale=4.0),
    )
    prompts = {"prompt": "a cat puts on sunglasses", "negative_prompt": "a red circle"}
    return ready(pipe), {**prompts, "height": 16, "width": 32, "num_inference_steps": 2, "output": "latents"}


def anima_img2img() -> Built:
    """The last two of four steps."""
    pipe, call = anima()
    return pipe, call | {"image": picture(32, 16), "strength": 0.5, "num_inference_steps": 4}


BUILDERS = (
    cosmos1_t2w,
    cosmos1_v2w,
    cosmos2_t2i,
    cosmos2_v2w,
    cosmos25_t2w,
    cosmos25_v2w,
    cosmos25_transfer,
    anima,
    anima_img2img,
)


def _karras() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)


def _transformer(
    *, in_channels: int, out_channels: int, extra_pos_embed_type: str | None, **config: Any
) -> CosmosTransformer3DModel:
    return CosmosTransformer3DModel(
        in_channels=in_channels,
        out_channels=out_channels,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=3,
        mlp_ratio=2,
        text_embed_dim=WIDTH,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
        rope_scale=(2.0, 1.0, 1.0),
        extra_pos_embed_type=extra_pos_embed_type,
        **config,
    )


def _cosmos1(kind: type, *, in_channels: int) -> Any:
    vae = AutoencoderKLCosmos(
        latent_channels=4,
        encoder_block_out_channels=(8,) * 4,
        decode_block_out_channels=(8,) * 4,
        attention_resolutions=(8,),
        resolution=64,
        num_layers=2,
        patch_size=4,
        spatial_compression_ratio=4,
        temporal_compression_ratio=4,
    )
    transformer = _transformer(in_channels=in_channels, out_channels=4, extra_pos_embed_type="learnable")
    scheduler = EDMEulerScheduler(sigma_max=80.0, prediction_type="epsilon", final_sigmas_type="sigma_min")
    return kind(None, None, transformer, vae, scheduler, NothingIsUnsafe())


def _cosmos2(kind: type, *, in_channels: int, scheduler: Any) -> Any:
    transformer = _transformer(in_channels=in_channels, out_channels=16, extra_pos_embed_type=None)
    return kind(None, None, transformer, AutoencoderKLWan(**WAN_VAE), scheduler, NothingIsUnsafe())


def _call(**more: Any) -> dict[str, Any]:
    return {
        "prompt_embeds": torch.randn(1, TEXT_TOKENS, WIDTH),
        "negative_prompt_embeds": torch.randn(1, TEXT_TOKENS, WIDTH),
        "height": 32,
        "width": 64,
        "num_frames": 9,
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "output_type": "latent",
        **more,
    }
