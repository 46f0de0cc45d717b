"""Data sets of the Hugging Face Hub, as a folder on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alignvid.errors import InputError


def downloaded(name: str, patterns: Sequence[str]) -> Path:
    """The snapshot of "owner/name" or "owner/name@revision", named as its commit; downloaded unless it was before.

    Args:
        name: Of the data set.
        patterns: Of the files that are needed.

    Raises: InputError if it cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(
            snapshot_download(repository, repo_type="dataset", revision=revision or None, allow_patterns=[*patterns])
        )
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"Data set {repository!r} cannot be fetched from the Hugging Face Hub; check the name and the connection, "
            "or download it elsewhere and give its folder."
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"Data set {repository!r} cannot be read on the Hugging Face Hub: {reason}") from error
