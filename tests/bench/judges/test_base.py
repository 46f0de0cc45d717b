"""What decides an answer is in the digest under which answers are compared, and what does not decide it is not."""

from dataclasses import replace

import pytest

from alignvid.bench.judges.asking import PROTOCOLS, shared_settings
from alignvid.bench.judges.base import JudgeIdentity
from alignvid.bench.judges.endpoint import Endpoint
from alignvid.bench.judges.frames import QWEN_2_5, QWEN_3
from alignvid.bench.judges.server import ServerJudge

IDENTITY = JudgeIdentity(judge="openai:a", protocol="paper", settings={"model": "a", "frames": 16})
SERVER = ServerJudge(
    endpoint=Endpoint("http://127.0.0.1:8000/v1", "none", 60.0),
    model="a",
    sampling=QWEN_2_5,
    protocol="paper",
    send="video",
    concurrency=4,
    server_version="1.0",
)


@pytest.mark.parametrize(
    "change",
    [{"judge": "openai:b"}, {"protocol": "logit"}, {"settings": {"model": "a", "frames": 8}}, {"settings": {}}],
    ids=str,
)
def test_another_judge_protocol_or_setting_is_another_digest(change):
    assert replace(IDENTITY, **change).digest != IDENTITY.digest


def test_the_order_in_which_settings_are_said_decides_nothing():
    assert replace(IDENTITY, settings={"frames": 16, "model": "a"}).digest == IDENTITY.digest


def test_a_setting_that_is_no_number_gets_no_digest():
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(IDENTITY, settings={"threshold": float("nan")}).digest  # noqa: B018  # taking it is the test


@pytest.mark.parametrize(
    "change",
    [{"model": "b"}, {"sampling": QWEN_3}, {"protocol": "logit"}, {"send": "images"}, {"server_version": "1.1"}],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_the_answers_of_a_server_is_in_its_digest(change):
    assert replace(SERVER, **change).identity.digest != SERVER.identity.digest


@pytest.mark.parametrize(
    "change",
    [{"concurrency": 9}, {"endpoint": Endpoint("http://elsewhere/v1", "key", 5.0)}],
    ids=lambda change: next(iter(change)),
)
def test_speed_and_address_of_a_server_are_not(change):
    assert replace(SERVER, **change).identity.digest == SERVER.identity.digest


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_settings_of_a_protocol_say_prompt_length_frames_and_how_a_reply_is_read(protocol):
    settings = shared_settings(protocol, QWEN_2_5)
    reading = {"reader"} if protocol == "paper" else {"threshold", "top_tokens"}
    assert settings.keys() == {"prompt", "max_tokens", "frames"} | reading
    assert settings["max_tokens"] == {"paper": 128, "logit": 1}[protocol]
    assert settings["frames"] == QWEN_2_5.to_dict() != QWEN_3.to_dict()
