"""Addresses and environments that cannot be: one sentence each, before anything is asked."""

import socket

import pytest

from alignvid.bench.judges import JudgeOptions, open_judge
from alignvid.bench.judges.address import checked_address, is_loopback, place, proxy_variable
from alignvid.errors import InputError, MissingExtra
from stub_server import MODEL, stub_server

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in (*PROXIES, *map(str.upper, PROXIES), *VARIABLES):
        monkeypatch.delenv(name, raising=False)


def yes(exchange):
    exchange.say("Yes")


def opened(address, **options):
    return open_judge("openai", JudgeOptions(base_url=address, **options))


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:99999/v1",
        "http://127.0.0.1:port/v1",
        "http://127.0.0.1:-1/v1",
        "http://127.0.0.1:0/v1",
        "http://[::1/v1",
        "http://",
        "http:///v1",
        "localhost:8000/v1",
        "ftp://127.0.0.1/v1",
        "file:///etc/passwd",
        "ws://127.0.0.1:8000/v1",
        "unix:///run/judge.sock",
        "http://127.0.0.1:8000/v 1",
        "http://127.0.0.1:8000/\n/v1",
        "http://exämple/v1",
        "http://a b/v1",
        "http://127.0.0.1:8000/v1\0",
        "v1",
        " ",
    ],
)
def test_an_address_that_is_none_is_refused_with_an_example(address):
    with pytest.raises(InputError, match=r"is no address.*give one such as http://127\.0\.0\.1:8000/v1\.$"):
        opened(address)


@pytest.mark.parametrize("padding", ["\n", " ", "\r\n", "\t"])
def test_spaces_and_line_breaks_around_an_address_are_no_part_of_it(padding, monkeypatch):
    with stub_server(yes) as (_, address):
        assert opened(address + padding).model == MODEL
        assert opened(padding + address).endpoint.base_url == address
        monkeypatch.setenv("OPENAI_BASE_URL", address + padding)
        assert opened(None).endpoint.base_url == address


@pytest.mark.parametrize("host", ["a..b", "-", "x" * 300, "%zz"])
def test_a_host_that_cannot_be_is_one_sentence(host):
    with pytest.raises(InputError) as caught:
        opened(f"http://{host}:9/v1")
    assert "\n" not in str(caught.value)


def test_a_line_break_after_the_key_is_no_part_of_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1\n")
    with stub_server(yes) as (stub, address):
        opened(address)
    assert stub.keys == {"Bearer sk-1"}


@pytest.mark.parametrize("key", ["sk-1\n2", "schlüssel", "a\x7f"])
def test_a_key_that_cannot_be_is_refused_and_not_repeated(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(InputError, match="OPENAI_API_KEY holds characters that no key has") as caught:
        opened("http://127.0.0.1:9/v1")
    assert key not in str(caught.value)


@pytest.mark.parametrize("option", ["model", "base_url"])
def test_an_option_that_no_record_can_hold_is_refused(option):
    with pytest.raises(InputError, match=f"--{option.replace('_', '-')} .* is no text in UTF-8"):
        open_judge("openai", JudgeOptions(**{option: "caf\udce9"}))


@pytest.mark.parametrize("models", [(None,), (None, ""), (None, MODEL), (3, MODEL)])
def test_a_model_without_a_name_is_passed_over(models):
    with stub_server(yes, models=models) as (_, address):
        if MODEL in models:
            assert opened(address).model == MODEL
        else:
            with pytest.raises(InputError, match=r"does not list its models; give --model\.$"):
                opened(address)
        assert opened(address, model=MODEL).model == MODEL


def test_an_address_without_v1_says_so():
    with stub_server(yes) as (_, address):
        bare = address.removesuffix("/v1")
        with pytest.raises(InputError, match=rf"ends in /v1: try --base-url {bare}/v1\."):
            opened(bare + "/")


def test_a_question_to_an_address_without_v1_says_so(tmp_path):
    from alignvid.bench.judges.judging import judge_run
    from rendered_runs import rendered_run

    with stub_server(yes) as (_, address):
        judge = opened(address.removesuffix("/v1"), model=MODEL)
        with pytest.raises(InputError, match=r"HTTP 404: Not Found\)\. .*try --base-url .*/v1\.$"):
            judge_run(rendered_run(tmp_path / "run", samples=1), judge, limit=None, on_answer=lambda row, count: None)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_that_catches_this_machine_is_named(monkeypatch, variable):
    with stub_server(yes) as (_, proxy):  # answers 404 to all that is meant for others
        monkeypatch.setenv(variable, proxy.removesuffix("/v1"))
        with pytest.raises(InputError, match=rf"variable {variable} sends requests to 127\.0\.0\.1 through a proxy"):
            opened("http://127.0.0.1:9/v1", model=MODEL)


def test_a_proxy_that_does_not_answer_is_named(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free.getsockname()[1]}")
    with pytest.raises(InputError, match=r"does not answer.*HTTP_PROXY sends .* set NO_PROXY=127\.0\.0\.1"):
        opened("http://127.0.0.1:9/v1")


def test_a_proxy_that_leaves_this_machine_out_is_not_named(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with stub_server(yes) as (_, address):
        assert opened(address).model == MODEL
        assert proxy_variable(address) is None


def test_a_socks_proxy_without_its_package_names_variable_and_package(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(MissingExtra, match=r"proxy of ALL_PROXY needs a package .*pip install socksio"):
        opened("http://127.0.0.1:9/v1")


@pytest.mark.parametrize("proxy", ["gopher://127.0.0.1:9", "http://127.0.0.1:port", "http://[::1"])
def test_a_proxy_that_cannot_be_is_one_sentence(monkeypatch, proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(InputError, match="HTTP_PROXY"):
        opened("http://127.0.0.1:9/v1")


def test_certificates_that_are_not_there_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(InputError, match=r"The certificates of SSL_CERT_FILE=.*none\.pem cannot be read"):
        opened("http://127.0.0.1:9/v1")


def test_certificates_that_are_none_are_named(monkeypatch, tmp_path):
    (tmp_path / "a.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "a.pem"))
    with pytest.raises(InputError, match=r"The certificates of SSL_CERT_FILE=.*a\.pem cannot be read"):
        opened("https://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://user:secret@host:80/v1?key=secret", "http://host:80/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("https://host/v1", "https://host/v1"),
    ],
)
def test_a_place_says_where_and_no_secret(address, shown):
    assert place(checked_address(address)) == shown


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("[::1]", True),
        ("10.0.0.1", False),
        ("a.b", False),
    ],
)
def test_this_machine_is_known_by_its_addresses(host, is_here):
    assert is_loopback(f"http://{host}:8000/v1") is is_here
