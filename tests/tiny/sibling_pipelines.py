"""Pipelines on the transformer of another one: inpainting, ControlNets, image-to-image."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
from diffusers import DiffusionPipeline

import image_pipelines as images
from image_pipelines import QWEN_TRANSFORMER, SD3_TRANSFORMER, mask_image, reference_picture
from pipelines import Built, awoken, picture, ready
from video_pipelines import channels_and_text


def flux_control_img2img() -> Built:
    return _sibling(diffusers.FluxControlImg2ImgPipeline, images.flux_control(), image=picture(16, 8), strength=0.7)


def flux_control_inpaint() -> Built:
    pictures = {"image": picture(16, 8), "mask_image": mask_image(16, 8), "strength": 0.7}
    return _sibling(diffusers.FluxControlInpaintPipeline, images.flux_control(), **pictures)


def flux_controlnet_img2img() -> Built:
    kind = diffusers.FluxControlNetImg2ImgPipeline
    return _sibling(kind, images.flux_controlnet(), image=picture(16, 8), strength=0.7)


def flux_controlnet_inpaint() -> Built:
    pictures = {"image": picture(16, 8), "mask_image": mask_image(16, 8), "strength": 0.7}
    return _sibling(diffusers.FluxControlNetInpaintPipeline, images.flux_controlnet(), **pictures)


def flux2_klein_inpaint() -> Built:
    """With a reference picture beside the one that is painted in."""
    pictures = {"image": picture(32, 16), "mask_image": mask_image(32, 16), "image_reference": reference_picture()}
    return _sibling(diffusers.Flux2KleinInpaintPipeline, images.flux2_klein(), **pictures, strength=0.7)


def qwen_image_controlnet() -> Built:
    controlnet = diffusers.QwenImageControlNetModel(**QWEN_TRANSFORMER | {"num_layers": 1})
    controls = {"control_image": picture(32, 16)}
    return _sibling(diffusers.QwenImageControlNetPipeline, images.qwen_image(), controlnet=controlnet, **controls)


def qwen_image_controlnet_inpaint() -> Built:
    controlnet = diffusers.QwenImageControlNetModel(
        **QWEN_TRANSFORMER | {"num_layers": 1, "extra_condition_channels": 4}
    )
    controls = {"control_image": picture(32, 16), "control_mask": mask_image(32, 16)}
    kind = diffusers.QwenImageControlNetInpaintPipeline
    return _sibling(kind, images.qwen_image(), controlnet=controlnet, **controls)


def sd3_controlnet() -> Built:
    controlnet = diffusers.SD3ControlNetModel(**SD3_TRANSFORMER | {"num_layers": 1})
    controls = {"control_image": picture(16, 8)}
    return _sibling(diffusers.StableDiffusion3ControlNetPipeline, images.sd3(), controlnet=controlnet, **controls)


def sd3_controlnet_inpaint() -> Built:
    controlnet = diffusers.SD3ControlNetModel(**SD3_TRANSFORMER | {"num_layers": 1, "extra_conditioning_channels": 1})
    controls = {"control_image": picture(16, 8), "control_mask": mask_image(16, 8)}
    kind = diffusers.StableDiffusion3ControlNetInpaintingPipeline
    return _sibling(kind, images.sd3(), controlnet=controlnet, **controls)


def z_image_controlnet() -> Built:
    return _z_image_controlnet(diffusers.ZImageControlNetPipeline, control_in_dim=4)


def z_image_controlnet_inpaint() -> Built:
    """In the controls' channels: the control 4, the mask 1, the picture that is painted in 4."""
    config = {"control_in_dim": 9, "add_control_noise_refiner": "control_noise_refiner"}
    pictures = {"image": picture(32, 16), "mask_image": mask_image(32, 16)}
    return _z_image_controlnet(diffusers.ZImageControlNetInpaintPipeline, **config, pictures=pictures)


def hunyuan_dit_controlnet() -> Built:
    pipe, call = images.hunyuan_dit()
    known = inspect.signature(diffusers.HunyuanDiT2DControlNetModel).parameters
    config = {key: value for key, value in pipe.transformer.config.items() if key in known}
    controlnet = diffusers.HunyuanDiT2DControlNetModel(
        **config, transformer_num_layers=pipe.transformer.config.num_layers
    )
    controls = {"control_image": picture(16, 16)}
    return _sibling(diffusers.HunyuanDiTControlNetPipeline, (pipe, call), controlnet=controlnet, **controls)


def sana_controlnet() -> Built:
    pipe, call = images.sana()
    config = {key: value for key, value in pipe.transformer.config.items() if not key.startswith("_")}
    controlnet = diffusers.SanaControlNetModel.from_config(config | {"num_layers": 1})
    return _sibling(
        diffusers.SanaControlNetPipeline, (pipe, call), controlnet=controlnet, control_image=picture(64, 32)
    )


def sana_sprint_img2img() -> Built:
    return _sibling(diffusers.SanaSprintImg2ImgPipeline, images.sana_sprint(), image=picture(64, 32), strength=0.9)


def kandinsky5_t2i() -> Built:
    return _kandinsky5(diffusers.Kandinsky5T2IPipeline, channels_and_text.kandinsky5_t2v())


def kandinsky5_i2i() -> Built:
    """The reference lies in the channels."""
    return _kandinsky5(diffusers.Kandinsky5I2IPipeline, channels_and_text.kandinsky5_i2v())


BUILDERS = (
    flux_control_img2img,
    flux_control_inpaint,
    flux_controlnet_img2img,
    flux_controlnet_inpaint,
    flux2_klein_inpaint,
    qwen_image_controlnet,
    qwen_image_controlnet_inpaint,
    sd3_controlnet,
    sd3_controlnet_inpaint,
    z_image_controlnet,
    z_image_controlnet_inpaint,
    hunyuan_dit_controlnet,
    sana_controlnet,
    sana_sprint_img2img,
    kandinsky5_t2i,
    kandinsky5_i2i,
)


def _z_image_controlnet(
    kind: type[DiffusionPipeline], *, pictures: dict[str, Any] | None = None, **config: Any
) -> Built:
    built = images.z_image()
    controlnet = diffusers.ZImageControlNetModel(
        control_layers_places=[0, 2],
        control_refiner_layers_places=[0],
        dim=32,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        **config,
    )
    return _sibling(kind, built, controlnet=awoken(controlnet), control_image=picture(32, 16), **pictures or {})


def _kandinsky5(kind: type[DiffusionPipeline], built: Built) -> Built:
    """Pictures of the two sizes that are allowed are too large."""
    pipe, call = _sibling(kind, built, vae=images.kl_vae(4, blocks=4))
    pipe.resolutions = [(64, 32)]
    return pipe, call


def _sibling(kind: type[DiffusionPipeline], built: Built, **more: Any) -> Built:
    """Another pipeline of the parts of one, and its call with what more it takes; parts may be among that, too."""
    pipe, call = built
    parts = {**pipe.config, **pipe.components, **more}
    sibling = ready(kind(**{name: parts[name] for name in inspect.signature(kind).parameters if name in parts}))
    arguments = inspect.signature(kind.__call__).parameters
    return sibling, {name: value for name, value in {**call, **more}.items() if name in arguments}
