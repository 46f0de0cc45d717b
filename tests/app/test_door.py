"""Who comes in: this machine unless a token is asked for, and no page of another site."""

import asyncio

import pytest

from alignvid.app.door import Door, Guard
from alignvid.errors import InputError

TOKEN = "a-token-of-23-characters"


async def behind(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the page"})


def asked(door, *, path="/", query="", **headers):
    """Status and headers of the answer to a request."""
    scope = {
        "type": "http",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(behind, door)(scope, None, send))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.2.1"])
def test_this_machine_alone_needs_no_token(host):
    assert Door(host).is_for_this_machine


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "127.0.0.1.example.org"])
def test_any_other_host_without_a_token_is_refused_with_the_line_that_makes_one(host):
    with pytest.raises(InputError, match=r"no token is asked for; give one with --token .*secrets"):
        Door(host)
    assert not Door(host, token=TOKEN).is_for_this_machine


def test_a_token_that_can_be_guessed_and_a_port_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="has 4 characters; give at least 16"):
        Door(token="cats")
    with pytest.raises(InputError, match="Port 70000 is out of range"):
        Door(port=70_000)


def test_with_a_token_nothing_answers_without_it():
    door = Door("0.0.0.0", 7860, TOKEN)
    for wrong in ({}, {"authorization": "Bearer no"}, {"cookie": "alignvid-7860=no"}, {"query": "token=no"}):
        assert asked(door, host="box:7860", **wrong)[0] == 401
    assert asked(door, host="box:7860", authorization=f"Bearer {TOKEN}")[0] == 200


def test_the_token_of_an_address_becomes_a_cookie_that_does_not_hold_it_and_leaves_the_address():
    door = Door("0.0.0.0", 7860, TOKEN)
    status, headers = asked(door, query=f"view=api&token={TOKEN}", host="box:7860")
    assert (status, headers["location"]) == (303, "/?view=api")
    cookie, *flags = headers["set-cookie"].split("; ")
    assert TOKEN not in cookie and {"HttpOnly", "SameSite=Strict"} <= set(flags)
    assert asked(door, host="box:7860", cookie=cookie)[0] == 200
    assert asked(Door("0.0.0.0", 7860, TOKEN + "2"), host="box:7860", cookie=cookie)[0] == 401


def test_a_name_that_another_site_lets_point_here_and_a_form_of_another_site_are_refused():
    door = Door(port=7860)
    assert asked(door, host="127.0.0.1:7860", origin="http://127.0.0.1:7860")[0] == 200
    assert asked(door, host="[::1]:7860")[0] == 200
    for headers in (
        {"host": "evil.example:7860"},
        {"host": "127.0.0.1:7860", "origin": "https://evil.example"},
        {"host": "127.0.0.1:7860", "origin": "null"},
        {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:9000"},
    ):
        assert asked(door, **headers)[0] == 403


def test_every_answer_forbids_what_is_not_of_this_server():
    for door, headers in ((Door(), {"host": "localhost"}), (Door(token=TOKEN), {"host": "localhost"})):
        assert asked(door, **headers)[1]["content-security-policy"].startswith("default-src 'self'")
