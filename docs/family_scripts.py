"""One complete script for each family: what `docs/scripts.md` shows, as data and one template.

Pipelines, targets and presets are those that the tests recorded (alignvid.models.evidence); the addresses of weights
are those that diffusers' own examples name, and its examples' frame rates. Where they name none, the script says so.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ruff import find_ruff_bin

from alignvid.models.evidence import PipelineFacts

EDIT = "the cat puts on sunglasses"
SCENE = "a cat puts on sunglasses"
NO_ADDRESS = "path/to/your/weights"
PART_OF = {"sana_wm_refiner": "sana_wm"}
"""Families whose transformer is a part of another one's pipeline."""

Result = Literal["frames[0]", "frames", "video", "images[0]"]


@dataclass(frozen=True)
class FamilyScript:
    """What differs between families."""

    pipeline: str
    model: str = NO_ADDRESS
    result: Result = "images[0]"
    fps: int | None = None
    """Of the example in diffusers, for videos."""
    takes_picture: bool = False
    more: str = ""
    """Further arguments of the call."""
    prompt: str = ""
    parts: str = ""
    """Lines before the pipeline is loaded, for parts that it must be given."""
    given: str = ""
    """Those parts as arguments."""
    note: str = ""

    @property
    def is_video(self) -> bool:
        return self.result != "images[0]"

    @property
    def is_modular(self) -> bool:
        return self.pipeline.endswith("ModularPipeline")


def _video(pipeline: str, model: str, fps: int | None = None, **more: str) -> FamilyScript:
    return FamilyScript(pipeline, model, "frames[0]", fps, **more)  # type: ignore[arg-type]  # texts alone


def _of_picture(pipeline: str, model: str, fps: int | None = None, **more: str) -> FamilyScript:
    return FamilyScript(pipeline, model, "frames[0]", fps, takes_picture=True, **more)  # type: ignore[arg-type]


FRAMEPACK_PARTS = """\
transformer = HunyuanVideoFramepackTransformer3DModel.from_pretrained(
    "lllyasviel/FramePackI2V_HY", torch_dtype=torch.bfloat16
)
feature_extractor = SiglipImageProcessor.from_pretrained("lllyasviel/flux_redux_bfl", subfolder="feature_extractor")
image_encoder = SiglipVisionModel.from_pretrained(
    "lllyasviel/flux_redux_bfl", subfolder="image_encoder", torch_dtype=torch.float16
)
"""
HIDREAM_PARTS = """\
llama = "meta-llama/Meta-Llama-3.1-8B-Instruct"
tokenizer_4 = AutoTokenizer.from_pretrained(llama)
text_encoder_4 = LlamaForCausalLM.from_pretrained(
    llama, output_hidden_states=True, output_attentions=True, torch_dtype=torch.bfloat16
)
"""

SCRIPTS: dict[str, FamilyScript] = {
    "allegro": _video("AllegroPipeline", "rhymes-ai/Allegro", 15),
    "anyflow": _video("AnyFlowPipeline", "nvidia/AnyFlow-Wan2.1-T2V-14B-Diffusers", 16),
    "anyflow_far": _video("AnyFlowFARPipeline", "nvidia/AnyFlow-FAR-Wan2.1-1.3B-Diffusers", 16),
    "aura_flow": FamilyScript("AuraFlowPipeline", "fal/AuraFlow"),
    "bria": FamilyScript("BriaPipeline", "briaai/BRIA-3.2"),
    "bria_fibo": FamilyScript(
        "BriaFiboPipeline",
        "briaai/FIBO",
        prompt='{"short_description": "a cat with sunglasses"}',
        note="It reads prompts in JSON, which a vision-language model of its makers writes.",
    ),
    "bria_fibo2": FamilyScript("BriaFibo2Pipeline", "briaai/Fibo-2.0-dev"),
    "chroma": FamilyScript("ChromaPipeline", "lodestones/Chroma1-HD"),
    "chronoedit": _of_picture("ChronoEditPipeline", "nvidia/ChronoEdit-14B-Diffusers", 16),
    "cogvideox": _of_picture("CogVideoXImageToVideoPipeline", "THUDM/CogVideoX-5b-I2V", 8),
    "cogview3": FamilyScript("CogView3PlusPipeline", "THUDM/CogView3-Plus-3B"),
    "cogview4": FamilyScript("CogView4Pipeline", "THUDM/CogView4-6B"),
    "cosmos": _of_picture("Cosmos2VideoToWorldPipeline", "nvidia/Cosmos-Predict2-2B-Video2World", 16),
    "cosmos3": FamilyScript("Cosmos3OmniPipeline", result="video", takes_picture=True),
    "easyanimate": _video("EasyAnimatePipeline", "alibaba-pai/EasyAnimateV5.1-7b-zh-diffusers", 8),
    "ernie_image": FamilyScript("ErnieImagePipeline"),
    "flux": FamilyScript("FluxKontextPipeline", "black-forest-labs/FLUX.1-Kontext-dev", takes_picture=True),
    "flux2": FamilyScript("Flux2KleinPipeline", "black-forest-labs/FLUX.2-klein-base-9B", takes_picture=True),
    "flux3": FamilyScript("Flux3ModularPipeline", takes_picture=True),
    "framepack": _of_picture(
        "HunyuanVideoFramepackPipeline",
        "hunyuanvideo-community/HunyuanVideo",
        30,
        parts=FRAMEPACK_PARTS,
        given="transformer=transformer, feature_extractor=feature_extractor, image_encoder=image_encoder",
        note='Of FramePack-F1 the weights are others, and the call has `sampling_type="vanilla"`.',
    ),
    "glm_image": FamilyScript("GlmImagePipeline", "zai-org/GLM-Image"),
    "helios": _of_picture("HeliosPipeline", "BestWishYsh/Helios-Base", 24),
    "hidream": FamilyScript(
        "HiDreamImagePipeline",
        "HiDream-ai/HiDream-I1-Full",
        parts=HIDREAM_PARTS,
        given="tokenizer_4=tokenizer_4, text_encoder_4=text_encoder_4",
    ),
    "hunyuan_dit": FamilyScript("HunyuanDiTPipeline", "Tencent-Hunyuan/HunyuanDiT-Diffusers"),
    "hunyuan_image": FamilyScript("HunyuanImagePipeline", "hunyuanvideo-community/HunyuanImage-2.1-Diffusers"),
    "hunyuan_video": _of_picture("HunyuanVideoImageToVideoPipeline", "hunyuanvideo-community/HunyuanVideo-I2V", 15),
    "hunyuan_video15": _of_picture(
        "HunyuanVideo15ImageToVideoPipeline", "hunyuanvideo-community/HunyuanVideo-1.5-480p_i2v", 24
    ),
    "ideogram4": FamilyScript("Ideogram4Pipeline", "ideogram-ai/ideogram-v4"),
    "joyimage": FamilyScript("JoyImageEditPipeline", "jdopensource/JoyAI-Image-Edit-Diffusers", takes_picture=True),
    "kandinsky5": _of_picture("Kandinsky5I2VPipeline", "kandinskylab/Kandinsky-5.0-I2V-Pro-sft-5s-Diffusers", 24),
    "kandinsky6": _of_picture("Kandinsky6TI2VAPipeline", "kandinskylab/Kandinsky-6.0-Pro-distill-5s-Diffusers", 24),
    "krea2": FamilyScript("Krea2Pipeline"),
    "latte": _video("LattePipeline", "maxin-cn/Latte-1"),
    "longcat_image": FamilyScript("LongCatImageEditPipeline", "meituan-longcat/LongCat-Image-Edit", takes_picture=True),
    "ltx2": _of_picture("LTX2ImageToVideoPipeline", "Lightricks/LTX-2", 24),
    "ltx_video": _of_picture("LTXImageToVideoPipeline", "Lightricks/LTX-Video", 24),
    "lumina": FamilyScript("LuminaPipeline", "Alpha-VLLM/Lumina-Next-SFT-diffusers"),
    "lumina2": FamilyScript("Lumina2Pipeline", "Alpha-VLLM/Lumina-Image-2.0"),
    "minimax_h3": FamilyScript("MiniMaxH3ModularPipeline", "MiniMaxAI/MiniMax-H3", "frames[0]", 24, takes_picture=True),
    "mochi": _video("MochiPipeline", "genmo/mochi-1-preview"),
    "motif_video": _of_picture("MotifVideoImage2VideoPipeline", "Motif-Technologies/Motif-Video-2B", 24),
    "nucleus_image": FamilyScript("NucleusMoEImagePipeline", "NucleusAI/NucleusMoE-Image"),
    "omnigen": FamilyScript("OmniGenPipeline", "Shitao/OmniGen-v1-diffusers"),
    "ovis_image": FamilyScript("OvisImagePipeline", "AIDC-AI/Ovis-Image-7B"),
    "pixart": FamilyScript("PixArtSigmaPipeline", "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"),
    "prx": FamilyScript("PRXPipeline", "Photoroom/prx-512-t2i-sft"),
    "qwen_image": FamilyScript(
        "QwenImageEditPipeline",
        "Qwen/Qwen-Image-Edit",
        takes_picture=True,
        more='negative_prompt=" ", true_cfg_scale=4.0',
    ),
    "qwen_image21": FamilyScript("QwenImage21Pipeline", "Qwen/Qwen-Image-2.1", takes_picture=True),
    "sana": FamilyScript("SanaPipeline", "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers"),
    "sana_video": _of_picture("SanaImageToVideoPipeline", "Efficient-Large-Model/SANA-Video_2B_480p_diffusers", 16),
    "sana_wm": FamilyScript(
        "SanaWMPipeline",
        "Efficient-Large-Model/SANA-WM_bidirectional-diffusers",
        "frames",
        16,
        takes_picture=True,
        more='action="w-80,jw-40,w-40", intrinsics=[800.0, 800.0, 845.0, 464.0]',
        note="`intrinsics` are fx, fy, cx, cy of your picture.",
    ),
    "sd3": FamilyScript("StableDiffusion3Pipeline", "stabilityai/stable-diffusion-3-medium-diffusers"),
    "skyreels_v2": _of_picture("SkyReelsV2ImageToVideoPipeline", "Skywork/SkyReels-V2-I2V-14B-720P-Diffusers", 24),
    "wan": _of_picture("WanImageToVideoPipeline", "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", 16),
    "wan_animate": _of_picture(
        "WanAnimatePipeline",
        "Wan-AI/Wan2.2-Animate-14B-Diffusers",
        30,
        more='pose_video=load_video("pose.mp4"), face_video=load_video("face.mp4")',
    ),
    "wan_animate2": FamilyScript(
        "WanAnimate2ModularPipeline",
        result="frames[0]",
        fps=24,
        takes_picture=True,
        more='driving_video=load_video("driving.mp4")',
    ),
    "z_image": FamilyScript("ZImagePipeline", "Tongyi-MAI/Z-Image-Turbo"),
}


def script_of(script: FamilyScript) -> str:
    """The whole script: load, attach, generate, save, say what acted."""
    run = [*_image(script), "with alignvid.attach(pipe) as attachment:", *_call(script), *_save(script)]
    return "\n".join([*_imports(script), "", *_loaded(script), *run, "print(attachment)", ""])


def section_of(facts: PipelineFacts) -> str:
    """Of one family: what acts, then the script."""
    script = SCRIPTS[facts.family]
    targets = ", ".join(f"`{target}`" for target in facts.targets)
    preset = (
        f"presets `{'`, `'.join(facts.presets)}`" if facts.presets else "the generic preset, which is not tuned to it"
    )
    about = [f"`{script.pipeline}`. Targets: {targets}; {preset}."]
    about += [script.note] if script.note else []
    about += ["diffusers' own examples name no address of its weights."] if script.model == NO_ADDRESS else []
    lines = [f"## {facts.family}", "", " ".join(about), "", "<!-- needs a download -->", "```python"]
    return "\n".join([*lines, script_of(script).rstrip(), "```", ""])


def _imports(script: FamilyScript) -> list[str]:
    names = {script.pipeline if not script.is_modular else "ModularPipeline"}
    names |= {"HunyuanVideoFramepackTransformer3DModel"} if script.parts == FRAMEPACK_PARTS else set()
    utils = {"export_to_video"} if script.is_video else set()
    utils |= {"load_image"} if script.takes_picture else set()
    utils |= {"load_video"} if "load_video" in script.more else set()
    lines = ["import torch", f"from diffusers import {', '.join(sorted(names))}"]
    lines += [f"from diffusers.utils import {', '.join(sorted(utils))}"] if utils else []
    if script.parts:
        from_transformers = {
            FRAMEPACK_PARTS: "SiglipImageProcessor, SiglipVisionModel",
            HIDREAM_PARTS: "AutoTokenizer, LlamaForCausalLM",
        }
        lines.append(f"from transformers import {from_transformers[script.parts]}")
    return [*lines, "", "import alignvid"]


def _loaded(script: FamilyScript) -> list[str]:
    if script.is_modular:
        load = [
            f'pipe = ModularPipeline.from_pretrained("{script.model}")',
            "pipe.load_components(torch_dtype=torch.bfloat16)",
        ]
        return [*load, 'pipe.to("cuda")']
    given = f", {script.given}" if script.given else ""
    load = f'pipe = {script.pipeline}.from_pretrained("{script.model}"{given}, torch_dtype=torch.bfloat16)'
    if len(load) > 120:
        inner = [f'    "{script.model}",', *(f"    {part}," for part in script.given.split(", ") if part)]
        load = "\n".join([f"pipe = {script.pipeline}.from_pretrained(", *inner, "    torch_dtype=torch.bfloat16,", ")"])
    return [*script.parts.splitlines(), load, "pipe.enable_model_cpu_offload()"]


def _image(script: FamilyScript) -> list[str]:
    return ['image = load_image("cat.png")'] if script.takes_picture else []


def _call(script: FamilyScript) -> list[str]:
    prompt = script.prompt or (EDIT if script.takes_picture else SCENE)
    arguments = ["image=image"] if script.takes_picture else []
    arguments += [f"prompt={prompt!r}" if '"' in prompt else f'prompt="{prompt}"']
    arguments += [script.more] if script.more else []
    made = "frames" if script.is_video else "picture"
    if script.is_modular:
        arguments.append('output="videos"' if script.is_video else 'output="images"')
        return [f"    {made} = pipe({', '.join(arguments)})[0]"]
    line = f"    {made} = pipe({', '.join(arguments)}).{script.result}"
    if len(line) <= 120:
        return [line]
    return [f"    {made} = pipe(", *(f"        {argument}," for argument in arguments), f"    ).{script.result}"]


def _save(script: FamilyScript) -> list[str]:
    if not script.is_video:
        return ['picture.save("out.png")']
    return [f'export_to_video(frames, "out.mp4"{f", fps={script.fps}" if script.fps else ""})']


SCRIPTS_HEAD = """# Which script do I copy for my model?

Written by `make docs` from the same records as [the list of models](models.md): a whole script for one pipeline of each
family, to be run on a GPU. It loads the model, attaches, generates, saves, and prints what acted. None was run on these
weights here: pipelines, arguments and types are checked against diffusers, and the same pipelines were run tiny. The
addresses of weights are those of diffusers' own examples; many ask for a licence to be accepted first. `cat.png` is
your picture.

Whatever the family, `alignvid.attach(pipe)` takes the model's own preset, or the generic one, and its settings can be
changed one by one: [concepts](concepts.md). With several pipelines in a family, the others go the same way.
"""


def scripts_page(table: list[PipelineFacts]) -> str:
    """docs/scripts.md, formatted as the check of the project wants it."""
    by_pipeline = {facts.pipeline: facts for facts in table}
    sections = [section_of(by_pipeline[script.pipeline]) for script in SCRIPTS.values()]
    parts = [f"## {part}\n\nRuns inside the pipeline of [{whole}](#{whole}).\n" for part, whole in PART_OF.items()]
    page = "\n".join([SCRIPTS_HEAD, *sorted([*sections, *parts])])
    formatter = [find_ruff_bin(), "format", "--stdin-filename", str(Path(__file__).with_name("scripts.md")), "-"]
    return subprocess.run(formatter, input=page, capture_output=True, encoding="utf-8", check=True).stdout
