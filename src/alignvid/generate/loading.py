"""From a model's name to a pipeline that is ready to run, refusing what cannot work before any weight is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignvid.errors import InputError, UnreadableFile, UnsupportedModel
from alignvid.files import is_there, read_json, user_path
from alignvid.generate.spec import DISTILLED, MINIATURE, MINIATURES
from alignvid.models import families
from alignvid.models.family import UNCONDITIONAL
from alignvid.models.refused import REFUSED
from alignvid.models.registry import supported_transformers, what_is_supported

TRANSFORMER_PARTS = ("transformer", "transformer_2", UNCONDITIONAL)
"""Components of a pipeline that may be transformers, the first one first."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_INDEX = "model_index.json"
_MODULAR_INDEX = "modular_model_index.json"
_CONFIG = "config.json"
_COMPLETE = "Its folder must be complete, as save_pretrained leaves it, with .safetensors weights."

# FramePack is published as a transformer alone; the rest is HunyuanVideo's and FLUX Redux's, as its authors load it.
_FRAMEPACK_TRANSFORMER = "HunyuanVideoFramepackTransformer3DModel"
_FRAMEPACK_PIPELINE = "HunyuanVideoFramepackPipeline"
_FRAMEPACK_BASE = "hunyuanvideo-community/HunyuanVideo"
_FRAMEPACK_IMAGE_ENCODER = "lllyasviel/flux_redux_bfl"


@dataclass(frozen=True)
class ModelSource:
    """A model that exists and whose family is supported; its weights have not been read."""

    name: str
    """As the user wrote it."""
    location: str
    """Folder, or id on the Hub."""
    is_local: bool
    """Whether `location` is a folder."""
    index: Mapping[str, Any]
    """The pipeline's model_index.json; made up for a FramePack transformer that comes alone."""

    @property
    def pipeline_class(self) -> str:
        """Name of the pipeline's class in diffusers."""
        return self.index["_class_name"]

    @property
    def is_miniature(self) -> bool:
        """Whether it is the model inside this package, distilled or not."""
        return self.name in MINIATURES

    @property
    def is_distilled(self) -> bool:
        """Whether it is the one that makes clips in four steps."""
        return self.name == DISTILLED

    @property
    def extra_arguments(self) -> dict[str, Any]:
        """Arguments of the call that this very checkpoint needs: FramePack F1 was trained for another sampling."""
        is_f1 = self.pipeline_class == _FRAMEPACK_PIPELINE and "f1" in self.location.lower()
        return {"sampling_type": "vanilla"} if is_f1 else {}

    @property
    def is_bare_framepack(self) -> bool:
        """Whether only FramePack's transformer is there."""
        return self.index.get("_bare_transformer", False)

    def read_json(self, path: str) -> dict[str, Any]:
        """A JSON file of the model, such as "transformer/config.json"; downloaded if need be.

        Raises: InputError if it is missing or no JSON.
        """
        file = Path(self.location, path) if self.is_local else _download(self.location, path)
        return _read_json(file)


def find_model(name: str) -> ModelSource:
    """The model of that name: "miniature", "miniature-4-step", a pipeline folder, or an id on the Hugging Face Hub.

    Raises: InputError if there is none; UnsupportedModel if its family is not supported.
    """
    if name in MINIATURES:
        source = _local_source(name, _miniature_folder())
    elif name.strip() and is_there(folder := user_path(name)):
        source = _local_source(name, folder)
    elif _HUB_ID.fullmatch(name) and not name.startswith("."):
        source = _hub_source(name)
    else:
        raise InputError(
            f"Model {name!r} is not there; give '{MINIATURE}', '{DISTILLED}', a folder that a diffusers pipeline was "
            "saved to, or an id on the Hugging Face Hub such as 'Wan-AI/Wan2.1-I2V-14B-480P-Diffusers'."
        )
    check_supported(source)
    return source


def check_supported(source: ModelSource) -> None:
    """Refuse a pipeline whose transformer no family describes.

    Raises: UnsupportedModel with the reason, or naming the nearest of what is supported; InputError if a supported
    pipeline lacks its transformer.
    """
    parts = [_class_of(source.index.get(part)) for part in TRANSFORMER_PARTS]
    refused = next((REFUSED[name] for name in (source.pipeline_class, *parts) if name in REFUSED), None)
    if refused is None and any(part in supported_transformers() for part in parts):
        return
    pipelines = [name for family in families().values() for name in family.pipelines]
    model = f"{source.pipeline_class} of {source.name!r}"
    if refused is not None:
        raise UnsupportedModel(f"{model} is not supported. {refused}")
    if source.pipeline_class not in pipelines:
        raise UnsupportedModel(f"{model} is not supported; {what_is_supported(source.pipeline_class, pipelines)}")
    if found := next((part for part in parts if part is not None), None):
        raise UnsupportedModel(
            f"{model} has {found} for its transformer, which no family describes; "
            "save the model again, or describe it as docs/families.md shows."
        )
    raise InputError(f"Model {source.name!r} has no transformer: its {_INDEX} names none. {_COMPLETE}")


def load_pipeline(source: ModelSource, dtype: str) -> Any:
    """The pipeline in main memory: safetensors only, no code from the model's folder.

    Raises: InputError if a part is missing or damaged.
    """
    import torch
    from diffusers import DiffusionPipeline
    from safetensors import SafetensorError

    options = {"dtype": _dtypes(source, getattr(torch, dtype)), "use_safetensors": True}
    try:
        if source.is_bare_framepack:
            pipeline = _load_framepack(source, options)
        else:
            pipeline = DiffusionPipeline.from_pretrained(source.location, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, AttributeError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"Model {source.name!r} cannot be loaded: {reason or type(error).__name__}. {_COMPLETE}"
        ) from error
    _refuse_weightless(source.name, pipeline)
    return _distilled(pipeline) if source.is_distilled else pipeline


def _refuse_weightless(name: str, pipeline: Any) -> None:
    """A parameter that no file holds is left on the meta device by diffusers, without a word."""
    for part, module in pipeline.components.items():
        parameters = module.named_parameters() if hasattr(module, "named_parameters") else ()
        if empty := [parameter for parameter, value in parameters if value.is_meta]:
            raise InputError(
                f"Model {name!r} cannot be loaded: {len(empty)} weights of its {part} are in no file, such as "
                f"{empty[0]}. {_COMPLETE}"
            )


def _dtypes(source: ModelSource, dtype: Any) -> dict[str, Any]:
    """Wan's autoencoder and image encoder lose visible quality below float32; its authors keep them there."""
    import torch

    if not source.pipeline_class.startswith("Wan"):
        return {"default": dtype}
    return {"default": dtype, "vae": torch.float32, "image_encoder": torch.float32}


def _load_framepack(source: ModelSource, options: dict[str, Any]) -> Any:
    from diffusers import HunyuanVideoFramepackPipeline, HunyuanVideoFramepackTransformer3DModel
    from transformers import SiglipImageProcessor, SiglipVisionModel

    dtype = options["dtype"]["default"]
    return HunyuanVideoFramepackPipeline.from_pretrained(
        _FRAMEPACK_BASE,
        transformer=HunyuanVideoFramepackTransformer3DModel.from_pretrained(
            source.location, dtype=dtype, use_safetensors=True
        ),
        image_encoder=SiglipVisionModel.from_pretrained(
            _FRAMEPACK_IMAGE_ENCODER, subfolder="image_encoder", dtype=dtype, use_safetensors=True
        ),
        feature_extractor=SiglipImageProcessor.from_pretrained(_FRAMEPACK_IMAGE_ENCODER, subfolder="feature_extractor"),
        **options,
    )


def _distilled(pipeline: Any) -> Any:
    from alignvid.miniature import lora_folder
    from alignvid.miniature.distilled import distilled

    return distilled(pipeline, lora_folder())


def _miniature_folder() -> Path:
    from alignvid.miniature import weights_folder

    return weights_folder()


def _local_source(name: str, folder: Path) -> ModelSource:
    if not folder.is_dir():
        raise InputError(f"Model {name!r} is a file; give the folder that a diffusers pipeline was saved to.")
    for file in (folder / _INDEX, folder / _CONFIG):
        if file.exists():
            return ModelSource(name, str(folder), True, _index(name, _read_json(file)))
    if (folder / _MODULAR_INDEX).exists():
        raise InputError(
            f"Folder {name!r} is a modular pipeline, which is not run from here; load it in Python with "
            "ModularPipeline.from_pretrained, then alignvid.attach(pipeline)."
        )
    raise InputError(
        f"Folder {name!r} is no diffusers pipeline: it has no {_INDEX}; "
        "give a folder written by pipeline.save_pretrained, or a Hub id."
    )


def _hub_source(name: str) -> ModelSource:
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        file = _download(name, _INDEX)
    except InputError as error:
        cause = error.__cause__
        if not isinstance(cause, EntryNotFoundError) or isinstance(
            cause, LocalEntryNotFoundError
        ):  # the latter: no network
            raise
        file = _download(name, _CONFIG)
    return ModelSource(name, name, False, _index(name, _read_json(file)))


def _index(name: str, content: dict[str, Any]) -> dict[str, Any]:
    """A pipeline's index as it is, or one made up around FramePack's transformer."""
    class_name = content.get("_class_name")
    if class_name == _FRAMEPACK_TRANSFORMER:
        parts = {"transformer": ["diffusers", _FRAMEPACK_TRANSFORMER]}
        return {"_class_name": _FRAMEPACK_PIPELINE, "_bare_transformer": True, **parts}
    if not isinstance(class_name, str):
        raise InputError(f"Model {name!r} does not name its pipeline's class; give a diffusers pipeline.")
    return content


def _download(repo: str, path: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo, path))
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"Model {repo!r} is no folder here, and {path} cannot be fetched from the Hugging Face Hub; check the "
            "name and the connection, or give a local folder."
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"Model {repo!r} has no {path} that can be read on the Hugging Face Hub: {reason}") from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except UnreadableFile as error:
        if error.is_missing:
            raise InputError(f"{str(file)!r} is missing. {_COMPLETE}") from error
        raise InputError(f"{str(file)!r} cannot be read as JSON: {error.reason}; save the model again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{str(file)!r} holds no JSON object; save the model again.")
    return content


def _class_of(entry: Any) -> str | None:
    """The class in a model index's [library, class] pair."""
    return entry[1] if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str) else None
