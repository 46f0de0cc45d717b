"""Pipelines and transformers of diffusers that cannot be attached to, and why.

What is neither here nor described by a family could be, in 25 lines: docs/families.md.
"""

from __future__ import annotations

_SOUND = "It makes sound alone: there is no picture that a prompt and a reference could disagree on."
_MASKED = "It fills in masked tokens instead of removing noise: there is no noise level that a window could go by."
_PERTURBED = (
    "It runs a third, perturbed pass in the batch of the two others, with attention processors of its own; use the "
    "pipeline without perturbed-attention guidance."
)
_UNET = (
    "It has a U-Net with a small transformer here and there between its convolutions: there is no stack of blocks to "
    "attach to."
)

REFUSED = {
    "AceStepTransformer1DModel": _SOUND,
    "DiTTransformer2DModel": "It is given a class and no prompt: there is no text to follow.",
    "DreamLiteMobilePipeline": _UNET,
    "DreamLitePipeline": _UNET,
    "DreamLiteTransformer2DModel": "It is a part of a U-Net: there is no stack of blocks to attach to.",
    "DreamLiteUNetModel": _UNET,
    "HunyuanDiTPAGPipeline": _PERTURBED,
    "Kandinsky6SRTransformer3DModel": "It enlarges a video and is given no prompt: there is no text to follow.",
    "LongCatAudioDiTTransformer": _SOUND,
    "MiniMaxMusic3Transformer1DModel": _SOUND,
    "PixArtSigmaPAGPipeline": _PERTURBED,
    "RFD4ProteinaTransformer": "It makes proteins: there is no text to follow.",
    "SanaPAGPipeline": _PERTURBED,
    "StableAudio3DiTModel": _SOUND,
    "StableAudioDiTModel": _SOUND,
    "StableDiffusion3PAGImg2ImgPipeline": _PERTURBED,
    "StableDiffusion3PAGPipeline": _PERTURBED,
    "Transformer2DModel": _MASKED,
    "TransformerTemporalModel": "It is a part of U-Nets that looks from frame to frame: there is no text to follow.",
    "UVit2DModel": _MASKED,
    "ZImageOmniPipeline": (
        "Each sample of its batch has its text end elsewhere, so that streams cannot be separated; use ZImagePipeline."
    ),
}
"""Reason, as sentences, by the name of a pipeline's class or a transformer's."""
