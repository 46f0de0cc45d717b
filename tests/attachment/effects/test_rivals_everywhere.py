"""Each rival on every tiny pipeline: it acts and leaves no trace, or is refused with a reason.

That what it does is right is shown where its quantities exist: test_dymos.py, test_source_tokens.py, test_painter.py,
test_down_up.py, test_alg.py, test_nag.py.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import alignvid
from alignvid import BlockSet, Recipe, StepWindow
from alignvid.errors import AlignvidError, ContractWarning
from alignvid.modulation import Alg, Dcag, DownUp, DyMoS, Grag, Modulation, Nag, Painter, RefKV
from pipelines import generate
from registry import BUILDERS
from worded import give_encoders

STRONG: list[Modulation] = [
    DyMoS(2.0), Grag(0.5), Dcag(0.5, 0.5), RefKV(1.5), Painter(2.0), DownUp(0.3), Alg(0.3), Nag("yes zq", scale=4.0)
]  # fmt: skip
NEUTRAL: dict[str, Modulation] = {
    one.kind: one
    for one in (DyMoS(0.0), Grag(1.0), Dcag(1.0, 1.0), RefKV(1.0), Painter(1.0), DownUp(1.0), Alg(1.0), Nag(scale=1.0))
}
OF_DETAIL = ("down-up", "alg")
"""They low-pass the reference, which in some tiny pipelines is of one colour."""
NOTHING_THERE = {("cosmos25_t2w", "dymos")}
"""Of a single latent frame: nothing can change."""
OWN_ENCODER = ("motif_i2v",)  # it asks its text encoder for a vision tower, which the T5 of these tests lacks
EVERY_TIME = ("wan22_ti2v_5b",)
NAMES = [name if name in EVERY_TIME else pytest.param(name, marks=pytest.mark.slow) for name in BUILDERS]


def made_by(pipe: Any, call: dict[str, Any]) -> torch.Tensor:
    torch.manual_seed(0)  # some pipelines encode their pictures without the generator
    return generate(pipe, call)


def everywhere(kind: Modulation) -> Recipe:
    return Recipe(kind, BlockSet.of("all"), StepWindow.all())


@pytest.mark.parametrize("name", NAMES)
def test_a_rival_acts_and_leaves_no_trace_or_is_refused_with_a_reason(name: str) -> None:
    pipe, call = BUILDERS[name]()
    if isinstance(call, dict) and name not in OWN_ENCODER:
        give_encoders(pipe, call)
    plain = made_by(pipe, call)
    for kind in STRONG:
        can_change = kind.kind not in OF_DETAIL and (name, kind.kind) not in NOTHING_THERE
        refusal = refused_with(pipe, call, kind, plain if can_change else None)
        if refusal is None:
            with alignvid.attach(pipe, everywhere(NEUTRAL[kind.kind])):
                assert torch.equal(made_by(pipe, call), plain), kind
        else:
            assert len(refusal) > 40 and "\n" not in refusal, (kind, refusal)
        assert torch.equal(made_by(pipe, call), plain), kind


def refused_with(pipe: Any, call: dict[str, Any], kind: Modulation, plain: torch.Tensor | None) -> str | None:
    """Why it is refused, or warned of, when it is attached or in the first forward; None if it acts."""
    try:
        with alignvid.attach(pipe, everywhere(kind)) as attachment:
            acted = made_by(pipe, call)
    except (AlignvidError, ContractWarning) as error:
        return str(error)
    assert attachment.acted_count > 0, kind
    assert plain is None or not torch.equal(acted, plain), kind
    return None
