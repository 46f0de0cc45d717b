"""The public surface: one sorted list, cheap to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import alignvid


def test_public_names_are_sorted_and_exist():
    assert alignvid.__all__ == sorted(alignvid.__all__)
    assert all(getattr(alignvid, name) is not None for name in alignvid.__all__)


def test_attach_stays_a_function_after_every_submodule_is_imported():
    import alignvid.attachment.attach

    assert callable(alignvid.attach) and alignvid.attach is alignvid.attachment.attach.attach


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'atach'"):
        alignvid.atach  # noqa: B018  # the access is the test


def test_import_is_silent_and_loads_neither_torch_nor_diffusers():
    code = (
        "import sys, alignvid; print(sorted({'torch', 'diffusers', 'transformers', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout.strip(), run.stderr) == ("[]", "")
