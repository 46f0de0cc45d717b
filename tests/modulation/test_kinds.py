"""A built-in kind of modulation is two files of one name: its settings, and its effect."""

from __future__ import annotations

import pytest

from alignvid.modulation import BUILT_IN, Modulation, Scalar

# a gain on a part of the text is one of single tokens, as an emphasis is: the effect of both is in words.py
NAMED_ALIKE = [kind for kind in BUILT_IN if kind is not Scalar]


@pytest.mark.parametrize("kind", NAMED_ALIKE, ids=lambda kind: kind.kind)
def test_settings_and_effect_have_one_name(kind: type[Modulation]) -> None:
    settings, effect = kind.__module__, kind.effects.partition(":")[0]
    assert settings.removeprefix("alignvid.modulation.") == effect.removeprefix("alignvid.attachment.effects.")
