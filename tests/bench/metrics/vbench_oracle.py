"""What VBench's own code says of random weights and made videos. Runs in VBench's environment, not in ours:

    python vbench_oracle.py FOLDER

writes FOLDER/expected.json, and the weights as VBench's code wants them, before it asks it. `FOLDER/videos` holds the
videos.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

FOLDER = Path(sys.argv[1])
os.environ["VBENCH_CACHE_DIR"] = str(FOLDER / "cache")

import torch  # noqa: E402

torch.manual_seed(0)
torch.set_num_threads(1)


def main() -> None:
    videos = sorted(str(path) for path in (FOLDER / "videos").glob("*.mp4"))
    expected = {}
    for name, ask in QUESTIONS.items():
        try:
            expected[name] = ask(videos)
        except Exception as error:  # what cannot be asked here is said, not hidden
            expected[name] = f"{type(error).__name__}: {error}"
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1))


def dynamic_degree(videos):
    from easydict import EasyDict
    from vbench.dynamic_degree import DynamicDegree
    from vbench.third_party.RAFT.core.raft import RAFT

    class Kept(DynamicDegree):
        """Keeps the scores that the original forgets."""

        def check_move(self, score_list):
            self.scores = list(score_list)
            return super().check_move(score_list)

    settings = EasyDict(model=str(FOLDER / "raft-things.pth"), small=False, mixed_precision=False, alternate_corr=False)
    model = RAFT(settings)
    torch.save({f"module.{name}": tensor for name, tensor in model.state_dict().items()}, settings.model)
    judge = Kept(settings, torch.device("cpu"))
    return [{"value": float(judge.infer(video)), "pairs": judge.scores} for video in videos]


def aesthetic_quality(videos):
    from vbench.aesthetic_quality import laion_aesthetic

    head = torch.nn.Linear(96, 1)
    torch.save(head.state_dict(), FOLDER / "head.pth")
    _, results = laion_aesthetic(head, openai_clip("clip-l", patch=14), videos, "cpu")
    return [{"value": result["video_results"]} for result in results]


def background_consistency(videos):
    from vbench.background_consistency import background_consistency as ask

    with torch.no_grad():
        aggregate, results = ask(openai_clip("clip-b", patch=32), None, videos, "cpu", False)
    return [{"value": result["video_results"], "aggregate": aggregate} for result in results]


def openai_clip(name, patch):
    """OpenAI's CLIP of two narrow layers; its weights go to a file under OpenAI's names."""
    from clip.model import CLIP

    model = CLIP(96, 224, 2, 128, patch, 16, 64, 64, 1, 1).eval()
    torch.save(model.visual.state_dict(), FOLDER / f"{name}.pth")
    return model


def temporal_flickering(videos):
    from vbench.temporal_flickering import cal_score

    return [{"value": float(cal_score(video))} for video in videos]


def dino():
    """DINO's own ViT of two narrow layers, from a checkout of facebookresearch/dino."""
    sys.path.insert(0, os.environ["ALIGNVID_DINO"])
    from vision_transformer import VisionTransformer

    torch.manual_seed(1)
    norm = {"norm_layer": lambda width: torch.nn.LayerNorm(width, eps=1e-6)}
    model = VisionTransformer(patch_size=16, embed_dim=64, depth=2, num_heads=1, qkv_bias=True, **norm).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.save(model.state_dict(), FOLDER / "dino.pth")
    return model


def subject_consistency(videos):
    from vbench.subject_consistency import subject_consistency as ask

    aggregate, results = ask(dino(), videos, "cpu", False)
    return [{"value": result["video_results"], "aggregate": aggregate} for result in results]


def i2v_subject(videos):
    from vbench2_beta_i2v.i2v_subject import i2v_subject as ask

    with torch.no_grad():
        _, results = ask(dino(), [(str(FOLDER / "image.png"), video) for video in videos], "cpu")
    return [{"value": float(result["video_results"])} for result in results]


def viclip_similarity(videos):
    """Two narrow layers with random weights; token ids come from a file, as the package has no vocabulary."""
    from vbench.overall_consistency import get_text_features, get_vid_features
    from vbench.third_party.ViCLIP.viclip_text import CLIP_TEXT
    from vbench.third_party.ViCLIP.viclip_vision import VisionTransformer
    from vbench.utils import clip_transform, read_frames_decord_by_fps

    tokens = torch.tensor(json.loads((FOLDER / "tokens.json").read_text()))
    torch.manual_seed(2)
    eyes = VisionTransformer(224, 32, 64, 2, 1, output_dim=16, num_frames=8).eval()
    reader = narrow_text_encoder(CLIP_TEXT, int(tokens.max()) + 1)
    for parameter in (*eyes.parameters(), *reader.parameters()):
        torch.nn.init.normal_(parameter, std=0.2)
    parts = {"vision_encoder": eyes, "text_encoder": reader}
    state = {f"{name}.{key}": tensor for name, part in parts.items() for key, tensor in part.state_dict().items()}
    torch.save({"model": state}, FOLDER / "viclip.pth")

    class Both:
        def encode_vision(self, frames, test):
            return eyes(frames.permute(0, 2, 1, 3, 4))

        def encode_text(self, text):
            return reader(tokens[None])

    found = []
    for video in videos:
        frames = clip_transform(224)(read_frames_decord_by_fps(video, num_frames=8, sample="middle"))
        features = get_vid_features(Both(), frames[None])
        text = get_text_features(Both(), "prompt", None, {})
        found.append({"value": float((features @ text.T)[0][0])})
    return found


def narrow_text_encoder(kind, vocabulary):
    """Without its tokenizer, which wants a file that the package does not hold."""
    import vbench.third_party.ViCLIP.viclip_text as module

    module._Tokenizer = lambda *_: None
    return kind(16, 32, vocabulary, 64, 1, 2, 0).eval()


QUESTIONS = {
    "temporal_flickering": temporal_flickering,
    "dynamic_degree": dynamic_degree,
    "aesthetic_quality": aesthetic_quality,
    "background_consistency": background_consistency,
    "subject_consistency": subject_consistency,
    "i2v_subject": i2v_subject,
    "viclip_similarity": viclip_similarity,
}

if __name__ == "__main__":
    main()
