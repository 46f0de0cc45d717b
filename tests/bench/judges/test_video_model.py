import numpy as np
import pytest
import torch
import transformers

from alignvid.bench.judges import JudgeOptions, asking, open_judge
from alignvid.bench.judges.frames import QWEN_2_5, QWEN_3, shown_frames
from alignvid.bench.judges.judging import judge_run
from alignvid.bench.verdicts import Verdict
from alignvid.errors import InputError
from alignvid.media.videos import Clip
from rendered_runs import rendered_run
from tiny_qwen import make_qwen_2_5, make_qwen_3, make_qwen_3_5

QUESTION = "Question: is the ball red?"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen")
    return {
        "qwen2.5": make_qwen_2_5(folder / "Tiny-Qwen2.5-VL"),
        "qwen3": make_qwen_3(folder / "Tiny-Qwen3-VL"),
        "qwen3.5": make_qwen_3_5(folder / "Tiny-Qwen3.5"),
        "qwen3.5-moe": make_qwen_3_5(folder / "Tiny-Qwen3.5-MoE", is_moe=True),
    }


@pytest.fixture(scope="module")
def judges(folders):
    """Of each kind, protocol "logit"."""
    options = {name: JudgeOptions(protocol="logit", model=str(folder)) for name, folder in folders.items()}
    return {name: open_judge("transformers", option) for name, option in options.items()}


@pytest.fixture(scope="module")
def clip():
    frames = np.random.default_rng(0).integers(0, 255, (12, 60, 96, 3), np.uint8)
    return Clip(frames=frames, fps=12.0)


KINDS = [("qwen2.5", QWEN_2_5), ("qwen3", QWEN_3), ("qwen3.5", QWEN_3), ("qwen3.5-moe", QWEN_3)]


def whole(judge, shown, *, said=()):
    """Logits of the next token from one forward over everything, without a cache."""
    model = judge.model
    inputs = model.inputs(shown)
    text = torch.cat((model.question_tokens(QUESTION), torch.tensor(said, dtype=torch.long)))
    after = torch.arange(len(text)).expand(3, -1) + int(inputs.positions.max()) + 1
    with torch.inference_mode():
        logits = model.model(
            input_ids=torch.cat((inputs.tokens, text))[None],
            position_ids=torch.cat((inputs.positions, after), dim=1)[:, None],
            **inputs.pixels,
        ).logits
    return logits[0, -1].float()


@pytest.mark.parametrize(("kind", "sampling"), KINDS)
def test_a_video_watched_once_gives_what_a_whole_forward_gives(judges, clip, kind, sampling):
    shown = shown_frames(clip, sampling)
    judge = judges[kind]

    top = judge.model.likeliest(judge.model.watch(shown), QUESTION, 20)

    expected = whole(judge, shown).log_softmax(-1).topk(20).values
    assert torch.allclose(torch.tensor([value for _, value in top]), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("kind", "sampling"), KINDS)
def test_a_question_leaves_nothing_behind_for_the_next(judges, clip, kind, sampling):
    model = judges[kind].model
    watched = model.watch(shown_frames(clip, sampling))

    first = model.likeliest(watched, QUESTION, 5)
    model.reply(watched, "Question: is it night?", 6)

    assert model.likeliest(watched, QUESTION, 5) == first


@pytest.mark.parametrize(("kind", "sampling"), KINDS)
def test_the_model_sees_the_video(judges, clip, kind, sampling):
    model = judges[kind].model
    seen = model.likeliest(model.watch(shown_frames(clip, sampling)), QUESTION, 5)

    black = Clip(np.zeros_like(clip.frames), clip.fps)
    assert model.likeliest(model.watch(shown_frames(black, sampling)), QUESTION, 5) != seen


@pytest.mark.parametrize(("kind", "sampling"), KINDS)
def test_prefix_and_question_are_the_tokens_of_the_whole_prompt(judges, clip, kind, sampling):
    model, shown = judges[kind].model, shown_frames(clip, sampling)
    content = [{"type": "video"}, {"type": "text", "text": QUESTION}]
    thinking = {} if model.may_think is None else {"enable_thinking": model.may_think}
    text = model.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, **thinking
    )
    frames = torch.from_numpy(shown.frames).permute(0, 3, 1, 2)
    times = {"fps": shown.fps, "total_num_frames": shown.total, "frames_indices": shown.indices}

    together = model.processor(text=[text], videos=[frames], video_metadata=[times], do_sample_frames=False)

    parts = torch.cat((model.inputs(shown).tokens, model.question_tokens(QUESTION)))
    assert together["input_ids"][0] == parts.tolist()


def test_a_reply_is_the_likeliest_token_again_and_again_with_the_models_penalty(judges, clip):
    judge, shown = judges["qwen2.5"], shown_frames(clip, QWEN_2_5)
    tokens = torch.cat((judge.model.inputs(shown).tokens, judge.model.question_tokens(QUESTION))).tolist()
    said = []
    for _ in range(4):
        logits = whole(judge, shown, said=said).clone()
        seen = sorted({*tokens, *said})
        logits[seen] = torch.where(logits[seen] < 0, logits[seen] * 1.05, logits[seen] / 1.05)
        said.append(int(logits.argmax()))

    text = judge.model.reply(judge.model.watch(shown), QUESTION, 4)

    assert text == judge.model.processor.tokenizer.decode(said, skip_special_tokens=True)
    assert judge.model.repetition_penalty == 1.05


def test_the_published_times_are_those_of_transformers_4_50_1(judges):
    """20 steps of the grid are 20 positions in time, and the text begins after the last of them (evaluation.md)."""
    frames = np.zeros((40, 112, 168, 3), np.uint8)
    model = judges["qwen2.5"].model

    inputs = model.inputs(shown_frames(Clip(frames, 8.0), QWEN_2_5))

    video = inputs.tokens == model.model.config.video_token_id
    times = inputs.positions[0, video]
    assert times.unique().tolist() == [int(times.min()) + 2 * step for step in range(20)]
    assert inputs.positions[:, -1].tolist() == [int(inputs.positions[:, video].max()) + 1] * 3


def test_a_run_is_judged_by_text_and_by_probability(folders, tmp_path, monkeypatch):
    monkeypatch.setitem(asking.MAX_TOKENS, "paper", 8)
    run = rendered_run(tmp_path / "run", samples=1)
    for protocol in ("paper", "logit"):
        judge = open_judge("transformers", JudgeOptions(protocol=protocol, model=str(folders["qwen2.5"])))
        tally = judge_run(run, judge, limit=None, on_answer=lambda row, count: None)
        assert tally.verdicts[Verdict.FAILED] == 0

    rows = run.answers()
    assert {row.judge for row in rows} == {"transformers:Tiny-Qwen2.5-VL"}
    assert all(row.reply and row.p_yes is None for row in rows if row.protocol == "paper")
    assert all(0 <= row.p_yes <= 1 for row in rows if row.protocol == "logit" and row.verdict != Verdict.UNPARSED)
    settings = {row.protocol: row.values for row in run.judges()}
    assert settings["paper"]["repetition_penalty"] == 1.05
    assert settings["paper"]["positions"] == "transformers 4.50.1"
    assert settings["paper"]["versions"]["transformers"] == transformers.__version__
    assert str(tmp_path) not in (run.path / "judges.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs --model"),
        ({"model": "nobody/nothing"}, "'nobody/nothing' cannot be loaded on 'cpu'"),
        ({"model": "TINY", "dtype": "int4"}, "dtype 'int4' is unknown; choose from float32, bfloat16, float16"),
        ({"model": "TINY", "device": "warp:9"}, "cannot be loaded on 'warp:9'"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_sentence(folders, options, message):
    if options.get("model") == "TINY":
        options = {**options, "model": str(folders["qwen2.5"])}
    with pytest.raises(InputError, match=message):
        open_judge("transformers", JudgeOptions(**options))


def test_a_model_that_may_think_is_asked_to_answer_at_once(judges):
    assert [judges[kind].identity.settings.get("thinking") for kind, _ in KINDS] == [None, None, False, False]
    head, _ = judges["qwen3.5"].model._around_question()
    assert head.endswith("<|vision_end|>") and judges["qwen3.5"].sampling == QWEN_3
    asked = judges["qwen3.5"].model.processor.tokenizer.decode(judges["qwen3.5"].model.question_tokens("Is it?"))
    assert asked.endswith("<think>\n\n</think>\n\n")  # it has thought, and answers now


def test_a_model_of_another_kind_is_refused(tmp_path):
    transformers.CLIPConfig().save_pretrained(tmp_path)

    with pytest.raises(InputError, match="is a clip; the judge 'transformers' knows qwen2_5_vl, qwen3_vl"):
        open_judge("transformers", JudgeOptions(model=str(tmp_path)))
