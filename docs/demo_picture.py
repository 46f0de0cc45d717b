"""Draw docs/images/demo.png, the picture in the README, from a demo: python docs/demo_picture.py [DEMO_FOLDER]."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from alignvid.media.videos import read_video

PICTURE = Path(__file__).parent / "images" / "demo.png"
SIDE, GAP, LINE = 120, 10, 26  # pixels
COLUMNS = ("reference", "without", "with AlignVid")
PROMPT_LETTERS = 52


def main(folder: Path) -> None:
    scenes = sorted(path for path in folder.glob("scene-*") if path.is_dir())
    width, height = len(COLUMNS) * (SIDE + GAP) + 2 * GAP, SIDE + LINE + GAP
    picture = Image.new("RGB", (2 * width, LINE + -(-len(scenes) // 2) * height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for index, scene in enumerate(scenes):
        left, top = GAP + index % 2 * width, LINE + index // 2 * height
        for column, (name, image) in enumerate(zip(COLUMNS, pictures(scene), strict=True)):
            x = left + column * (SIDE + GAP)
            if index < 2:
                draw.text((x, 5), name, "black", font)
            picture.paste(image.resize((SIDE, SIDE), Image.Resampling.NEAREST), (x, top))
        prompt = json.loads((scene / "record.json").read_text(encoding="utf-8"))["spec"]["prompt"]
        draw.text((left, top + SIDE + 4), shortened(prompt), "black", font)
    picture.save(PICTURE, optimize=True)


def pictures(scene: Path) -> list[Image.Image]:
    """The reference image, and the last frame of each video."""
    last = [Image.fromarray(read_video(scene / f"{role}.mp4").frames[-1]) for role in ("baseline", "alignvid")]
    return [Image.open(scene / "reference.png").convert("RGB"), *last]


def shortened(prompt: str) -> str:
    """The edit, which stands last in most long prompts."""
    return prompt if len(prompt) <= PROMPT_LETTERS else "… " + prompt[-PROMPT_LETTERS:].partition(" ")[2].lstrip(" .,")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
