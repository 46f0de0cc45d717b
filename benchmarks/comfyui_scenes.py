"""The miniature in ComfyUI's stock nodes, baseline and AlignVid on the same scenes and noise, judged by rule.

    ALIGNVID_COMFYUI=core PYTHONPATH=tests/support .venv-comfyui/bin/python benchmarks/comfyui_scenes.py --scenes 20

Prints one JSON line. The environment is that of `make test-comfyui`.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import comfyui_miniature as graph
from alignvid.miniature.evaluate import trials
from alignvid.miniature.judge import judge
from alignvid.miniature.scenes import DEVELOPMENT, HELD_OUT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--held-out", action="store_true", help="held-out scenes, for a figure that is published")
    given = parser.parse_args()
    models = {"baseline": graph.loaded()[0], "alignvid": graph.aligned()}
    shown: dict[str, list[tuple[bool, bool]]] = {name: [] for name in models}
    for trial in trials(HELD_OUT if given.held_out else DEVELOPMENT, given.scenes):
        frame = graph.first_frame_of(trial.scene)
        for name, model in models.items():
            clip: Any = graph.clip_of(frame, trial.prompt, 1_000_003 + trial.number, model)
            verdict = judge(clip, trial.scene)
            shown[name].append((verdict.edit_shown, verdict.rest_untouched))
    pairs = list(zip(shown["baseline"], shown["alignvid"], strict=True))
    print(
        json.dumps(
            {
                "scenes": given.scenes,
                "held_out": given.held_out,
                "edit_shown": {name: sum(one for one, _ in found) for name, found in shown.items()},
                "rest_untouched": {name: sum(two for _, two in found) for name, found in shown.items()},
                "gained": sum(after[0] and not before[0] for before, after in pairs),
                "lost": sum(before[0] and not after[0] for before, after in pairs),
            }
        )
    )


if __name__ == "__main__":
    main()
