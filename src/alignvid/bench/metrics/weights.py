"""Where a metric's weights lie: a path, a model or file on the Hub, or a file behind a URL; always a path in the end.

Weights are read as tensors only: safetensors, or PyTorch files with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from alignvid.bench.metrics.metric import Metric, Weights
from alignvid.errors import InputError
from alignvid.files import check_file, is_there, sha256_of_file, user_path

State = dict[str, torch.Tensor]

_TEXT_FILES = ("*.json", "*.txt")
_TENSOR_FILES = ("*.safetensors", "*.bin")
_HASH_IN_URL = re.compile(r"-([0-9a-f]{8,})\.")


def check_names(sources: Mapping[str, str], metrics: Sequence[Metric]) -> None:
    """Raises: InputError if a source is given for weights that none of the metrics has."""
    known = sorted({weights.name for metric in metrics for weights in metric.weights})
    for name in sources:
        if name not in known:
            needed = ", ".join(known) or "none"
            raise InputError(f"{name!r} is not among the weights of these metrics; they need: {needed}.")


def locate(weights: Weights, source: str | None) -> Path:
    """The path of the weights, fetched if they are on the Hub or behind a URL and not here yet.

    Raises: InputError saying which file is needed, if it is not there and cannot be fetched.
    """
    source = source or weights.default
    if source is None:
        raise _missing(weights, "no path was given")
    if is_there(path := user_path(source)):
        return path
    if "/" not in source:
        raise _missing(weights, f"{source!r} does not exist")
    try:
        return _fetched(source, weights.has_tensors)
    except Exception as error:  # of the network, the Hub's client, the disk: all mean that the file is not here
        raise _missing(
            weights, f"{source!r} is no path here and could not be fetched ({_first_line(error)})"
        ) from error


def digest(weights: Weights, path: Path) -> str:
    """SHA-256 of a file, or of all files of tensors and settings in a folder, with their names."""
    if path.is_file():
        return sha256_of_file(path)
    files = sorted({file for pattern in _patterns(weights.has_tensors) for file in path.glob(pattern)})
    lines = [f"{file.name} {sha256_of_file(file)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_state(path: Path) -> State:
    """The tensors of a safetensors or PyTorch file, by name; a dict inside "model" or "state_dict" is taken out.

    Raises: InputError if the file is damaged, or holds something else than tensors.
    """
    if path.is_dir():
        raise InputError(f"Weights {str(path)!r} are a folder; give the file in it.")
    check_file(path)
    try:
        content = _read(path)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, KeyError) as error:
        raise InputError(
            f"Weights {str(path)!r} cannot be read ({_first_line(error)}); give a complete safetensors or PyTorch file "
            "of tensors."
        ) from error
    state = {name.removeprefix("module."): tensor for name, tensor in _named_tensors(content)}
    if not state:
        raise InputError(f"Weights {str(path)!r} hold no tensors; give a file with a state dict.")
    return state


def fill(model: torch.nn.Module, state: State, path: Path) -> None:
    """Load a state dict into the model, all of it.

    Raises: InputError naming a weight that is missing, left over or of another shape.
    """
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        problem = " ".join(str(error).split())[:300]
        raise InputError(
            f"Weights {str(path)!r} do not fit: {problem}; give the checkpoint that docs/metrics.md names."
        ) from error


def pretrained(load: Callable[..., Any], path: Path, **options: Any) -> Any:
    """A model of transformers from its folder.

    Raises: InputError if the folder holds no such model, or one with other weights.
    """
    try:
        model, report = load(path, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"Weights {str(path)!r} cannot be loaded ({_first_line(error)}); give a folder of transformers with "
            "config.json and model.safetensors."
        ) from error
    unfilled = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if unfilled:  # transformers would fill it with random numbers
        raise InputError(
            f"Weights {str(path)!r} do not fit: {unfilled[0]} is missing or of another shape; "
            "give the model that docs/metrics.md names."
        )
    return model.eval()


def _named_tensors(content: Any) -> list[tuple[str, torch.Tensor]]:
    if not isinstance(content, dict):
        return []
    for wrapping in ("model", "state_dict"):
        if isinstance(content.get(wrapping), dict):
            return _named_tensors(content[wrapping])
    return [(name, value) for name, value in content.items() if isinstance(value, torch.Tensor)]


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _patterns(has_tensors: bool) -> tuple[str, ...]:
    return (*_TENSOR_FILES, *_TEXT_FILES) if has_tensors else _TEXT_FILES


def _fetched(source: str, has_tensors: bool) -> Path:
    if source.startswith("https://"):
        return _from_url(source)
    from huggingface_hub import hf_hub_download, snapshot_download

    owner, model, *file = source.split("/")
    if file:
        return Path(hf_hub_download(f"{owner}/{model}", "/".join(file)))
    safe = ["*.safetensors"] if has_tensors else []
    folder = Path(snapshot_download(source, allow_patterns=[*safe, *_TEXT_FILES]))
    if has_tensors and not list(folder.glob("*.safetensors")):
        folder = Path(snapshot_download(source, allow_patterns=["pytorch_model.bin", *_TEXT_FILES]))
    return folder


def _from_url(url: str) -> Path:
    """The file in torch's cache; where its name ends in the first digits of its SHA-256, they are checked."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / url.rsplit("/", 1)[1]
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        digits = _HASH_IN_URL.search(path.name)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digits[1] if digits else None, progress=False)
    return path


def _missing(weights: Weights, reason: str) -> InputError:
    return InputError(f"Needs {weights.what}: {reason}; give its path with --weights {weights.name}=PATH.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
