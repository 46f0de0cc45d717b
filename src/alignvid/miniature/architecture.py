"""The parts of the miniature: the classes of Wan2.1-I2V-14B, with sizes that train on one processor core."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from alignvid.miniature.prompts import SPELLINGS, vocabulary
from alignvid.miniature.sizes import SPATIAL_FACTOR, TEMPORAL_FACTOR

LATENT_CHANNELS = 16  # as in Wan 2.1, so that the transformer sees 16 + 4 + 16 channels, too
PIXEL_PATCH = 2  # the encoder begins with patches of 2×2 pixels, as Wan 2.2's does, which makes it four times faster
TEXT_TOKENS = 512  # the number that Wan's attention has built in
TEXT_WIDTH = 64
IMAGE_WIDTH = 64
IMAGE_SIZE = 80
IMAGE_PATCH = 10  # 65 image keys: 8 × 8 patches and the class token
BLOCKS = 6
HEADS = 4
HEAD_WIDTH = 32  # 4 × 32 = 128 wide: 2.0 M parameters
FEED_FORWARD_WIDTH = 512
FLOW_SHIFT = 3.0  # as Wan 2.1 at 480p
PADDING, END, UNKNOWN = "<pad>", "</s>", "<unk>"


def build_vae() -> AutoencoderKLWan:
    """A Wan autoencoder of 1.9 M parameters; latents_mean and latents_std are measured after its training."""
    return AutoencoderKLWan(
        base_dim=16,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        patch_size=PIXEL_PATCH,
        in_channels=3 * PIXEL_PATCH**2,
        out_channels=3 * PIXEL_PATCH**2,
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
        scale_factor_spatial=SPATIAL_FACTOR,
        scale_factor_temporal=TEMPORAL_FACTOR,
    )


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word of the grammar, and an end mark; any other word is `<unk>`."""
    tokens = {token: index for index, token in enumerate([PADDING, END, UNKNOWN, *vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token=UNKNOWN))
    spellings = [normalizers.Replace(Regex(rf"\b{other}\b"), own) for other, own in SPELLINGS.items()]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *spellings])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, tokens[END])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PADDING,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=TEXT_TOKENS,
    )


def build_text_encoder(tokenizer: PreTrainedTokenizerFast) -> UMT5EncoderModel:
    """Two layers of UMT5: enough to bind "red" to "circle" in sentences of at most fifty words."""
    special: Any = tokenizer  # whose ids are single numbers here
    config = UMT5Config(
        vocab_size=len(tokenizer),
        d_model=TEXT_WIDTH,
        d_kv=16,
        num_heads=4,
        d_ff=192,
        num_layers=2,
        dropout_rate=0.0,
        pad_token_id=special.pad_token_id,
        eos_token_id=special.eos_token_id,
        decoder_start_token_id=special.pad_token_id,
    )
    return UMT5EncoderModel(config)


def build_image_encoder() -> CLIPVisionModel:
    """Three layers of CLIP's vision tower; the pipeline reads the last but one."""
    config = CLIPVisionConfig(
        hidden_size=IMAGE_WIDTH,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=IMAGE_PATCH,
        projection_dim=IMAGE_WIDTH,
    )
    return CLIPVisionModel(config)


def build_image_processor() -> CLIPImageProcessorPil:
    """CLIP's preparation of the reference image, at 80 pixels; the variant that needs no torchvision."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE}, crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    )


def build_transformer() -> WanTransformer3DModel:
    """A Wan transformer with image keys and the first frame in its channels, as in Wan2.1-I2V."""
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        in_channels=2 * LATENT_CHANNELS + TEMPORAL_FACTOR,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_WIDTH,
        freq_dim=128,
        ffn_dim=FEED_FORWARD_WIDTH,
        num_layers=BLOCKS,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        image_dim=IMAGE_WIDTH,
        added_kv_proj_dim=HEADS * HEAD_WIDTH,
        rope_max_seq_len=32,
    )


def build_scheduler() -> UniPCMultistepScheduler:
    """The scheduler of Wan's pipelines."""
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT)
