"""Draw docs/images/demo.webp, the animation in the README, from a demo: python docs/demo_picture.py [DEMO_FOLDER]."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from alignvid.media.videos import read_video

ANIMATION = Path(__file__).parent / "images" / "demo.webp"
SIDE, GAP, LINE = 120, 10, 26  # pixels
COLUMNS = ("reference", "without", "with AlignVid")
PROMPT_LETTERS = 52
FIRST_MS, FRAME_MS, LAST_MS = 900, 160, 2500
"""How long the first frame of the clips stands, each further one, and the last one."""


def main(folder: Path) -> None:
    scenes = sorted(path for path in folder.glob("scene-*") if path.is_dir())
    clips = [frames(scene) for scene in scenes]
    prompts = [json.loads((scene / "record.json").read_text(encoding="utf-8"))["spec"]["prompt"] for scene in scenes]
    count = len(clips[0])
    pages = [page([clip[index] for clip in clips], prompts) for index in range(count)]
    times = [FIRST_MS, *[FRAME_MS] * (count - 2), LAST_MS]
    pages[0].save(ANIMATION, save_all=True, append_images=pages[1:], duration=times, loop=0, quality=80, method=6)


def page(rows: list[list[np.ndarray]], prompts: list[str]) -> Image.Image:
    """One moment of all scenes."""
    width, height = len(COLUMNS) * (SIDE + GAP) + 2 * GAP, SIDE + LINE + GAP
    picture = Image.new("RGB", (2 * width, LINE + -(-len(rows) // 2) * height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for index, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        left, top = GAP + index % 2 * width, LINE + index // 2 * height
        for column, (name, frame) in enumerate(zip(COLUMNS, row, strict=True)):
            x = left + column * (SIDE + GAP)
            if index < 2:
                draw.text((x, 5), name, "black", font)
            picture.paste(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, top))
        draw.text((left, top + SIDE + 4), shortened(prompt), "black", font)
    return picture


def frames(scene: Path) -> list[list[np.ndarray]]:
    """Of each moment the reference image, and the frame of each video."""
    reference = np.asarray(Image.open(scene / "reference.png").convert("RGB"))
    videos = [read_video(scene / f"{role}.mp4").frames for role in ("baseline", "alignvid")]
    return [[reference, *both] for both in zip(*videos, strict=True)]


def shortened(prompt: str) -> str:
    """The edit, which stands last in most long prompts."""
    return prompt if len(prompt) <= PROMPT_LETTERS else "… " + prompt[-PROMPT_LETTERS:].partition(" ")[2].lstrip(" .,")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
