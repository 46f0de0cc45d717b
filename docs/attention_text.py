"""From the numbers of attention.json to the tables of attention.md. `python docs/attention_text.py` writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignvid.files import sha256_of_file
from alignvid.miniature import weights_folder

DATA, PAGE = Path(__file__).parent / "attention.json", Path(__file__).parent / "attention.md"
BEGIN, END = "<!-- written by `make figures` from attention.json -->", "<!-- end of what is written -->"

BASELINE, BLURRED, ALIGNVID = "baseline", "blurred input", "AlignVid"
TEXT, IMAGE, SELF = (f"entropy of {name}, nats" for name in ("text attention", "image attention", "self-attention"))
MASS = "pooled mass on text, %"
PROMPT = "text attention on the prompt's own tokens, %"
SHOWN, UNTOUCHED = "edit shown, % of clips", "rest untouched, % of clips"
FOLLOWED, NEGLECTED = "edit shown", "edit not shown"
STALE = (
    "**Measured on the miniature's earlier weights**; those in this package were trained anew since. `make figures` "
    "measures them."
)
PARTED = (TEXT, MASS, PROMPT)
"""Measures that are compared between the baseline's clips that show their edit and those that do not."""
MEASURES = (TEXT, IMAGE, SELF, MASS, PROMPT, SHOWN, UNTOUCHED)


@dataclass(frozen=True)
class Claim:
    """What the paper says, as the sign of a difference from the baseline."""

    text: str
    variant: str
    measure: str
    sign: int


PAPER = (
    Claim("a slight blur of the input lowers the entropy of text attention", BLURRED, TEXT, -1),
    Claim("… of image attention", BLURRED, IMAGE, -1),
    Claim("… of self-attention", BLURRED, SELF, -1),
    Claim("a slight blur of the input raises the mass on text", BLURRED, MASS, 1),
    Claim("a slight blur of the input makes videos follow the prompt", BLURRED, SHOWN, 1),
    Claim("AlignVid lowers the entropy of text attention", ALIGNVID, TEXT, -1),
    Claim("… of image attention", ALIGNVID, IMAGE, -1),
    Claim("… of self-attention", ALIGNVID, SELF, -1),
    Claim("AlignVid makes videos follow the prompt", ALIGNVID, SHOWN, 1),
)


def verdict(difference: list[float], sign: int) -> str:
    """What a difference with its interval says of a claim: seen, opposite, or not seen where the interval holds 0."""
    _, low, high = difference
    if low <= 0 <= high:
        return "not seen"
    return "seen" if (low > 0) == (sign > 0) else "**opposite**"


def shipped_sha256() -> str:
    """Of the transformer's weights in this package; the numbers hold for those that their data name."""
    files = sorted((weights_folder() / "transformer").glob("*.safetensors"))
    return hashlib.sha256("".join(map(sha256_of_file, files)).encode()).hexdigest()


def written_part(data: Mapping[str, Any], *, shipped: str) -> str:
    """What stands between the two marks of the page; it says so if the weights have changed since."""
    lines = [_setting(data), ""] if data["transformer_sha256"] == shipped else [_setting(data), "", STALE, ""]
    lines.append(f"| mean over queries, heads, blocks and steps | {BASELINE} | {BLURRED} | {ALIGNVID} |")
    lines.append("|---|---|---|---|")
    for measure in MEASURES:
        cells = [_plain(data["means"][BASELINE][measure], measure)]
        cells += [_change(data, variant, measure) for variant in (BLURRED, ALIGNVID)]
        lines.append(f"| {measure} | {' | '.join(cells)} |")
    lines += ["", "| the paper says | here: difference from the baseline | verdict |", "|---|---|---|"]
    for claim in PAPER:
        difference = data["differences"][claim.variant][claim.measure]
        lines.append(f"| {claim.text} | {_signed(difference, claim.measure)} | {verdict(difference, claim.sign)} |")
    lines += ["", f"| γ on the text keys | {' | '.join(data['sweep'])} |", f"|{'---|' * (1 + len(data['sweep']))}"]
    for measure in (TEXT, PROMPT, SHOWN, UNTOUCHED):
        lines.append(
            f"| {measure} | {' | '.join(_plain(point[measure], measure) for point in data['sweep'].values())} |"
        )
    lines += ["", "| the baseline's clips | n | " + " | ".join(PARTED) + " |", f"|{'---|' * (2 + len(PARTED))}"]
    for name, part in data["by_outcome"].items():
        lines.append(
            f"| {name} | {part['clips']} | {' | '.join(_plain(part[measure], measure) for measure in PARTED)} |"
        )
    return "\n".join(lines)


def with_written_part(page: str, part: str) -> str:
    """The page with the part between its marks replaced. Raises: ValueError if it has no such marks."""
    before, after = page[: page.index(BEGIN)], page[page.index(END) :]
    return f"{before}{BEGIN}\n{part}\n{after}"


def _setting(data: Mapping[str, Any]) -> str:
    return (
        f"n = {data['scenes']} held-out scenes, one noise seed each, {data['steps']} steps, guidance 1; "
        f"blur: {data['blur_sigma']:g} of {data['width']} pixels; AlignVid: {data['preset']}. In brackets 95 % "
        "bootstrap intervals over scenes; differences are paired, same prompt, picture and noise."
    )


def _change(data: Mapping[str, Any], variant: str, measure: str) -> str:
    mean = data["means"][variant][measure][0]
    return f"{mean:.{_decimals(measure)}f} ({_signed(data['differences'][variant][measure], measure)})"


def _plain(estimate: list[float], measure: str) -> str:
    value, low, high = (f"{number:.{_decimals(measure)}f}" for number in estimate)
    return f"{value} [{low}, {high}]"


def _signed(estimate: list[float], measure: str) -> str:
    """One decimal more than the means have, as differences are small."""
    value, low, high = (f"{number:+.{_decimals(measure) + 1}f}" for number in estimate)
    return f"{value} [{low}, {high}]".replace("-", "−")


def _decimals(measure: str) -> int:
    return 3 if measure.endswith("nats") else 1


if __name__ == "__main__":
    PAGE.write_text(
        with_written_part(
            PAGE.read_text("utf-8"), written_part(json.loads(DATA.read_text()), shipped=shipped_sha256())
        ),
        "utf-8",
    )
