"""E6: keys and passwords are in no message, whoever says them."""

import json
from contextlib import closing

import pytest
from caption_server import answer, server

from relope import redact
from relope.errors import InvalidInputError, RelopeError
from relope.extract.endpoint import client
from relope.extract.endpoint.address import open_endpoint
from relope.extract.endpoint.client import Question, ask
from relope.locations import parse_uri
from relope.redact import hide, redacted

KEY = "sk-do-not-show-4711"


@pytest.fixture(autouse=True)
def quick(monkeypatch, no_waits):
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    monkeypatch.setattr(redact, "_hidden", set())


def refused(url, monkeypatch, key=KEY):
    """Ask with a key and return the error."""
    monkeypatch.setenv("MY_SERVER", key)
    with pytest.raises(RelopeError) as caught, closing(open_endpoint(url, "m", "MY_SERVER")) as endpoint:
        ask(endpoint, Question([{"role": "user", "content": "?"}], 8))
    return caught.value


@pytest.mark.parametrize("ending", ["\n", "\r\n", " ", "\t\n"])
def test_e6_a_key_is_stripped(monkeypatch, ending):
    with server(lambda number, body: (200, {}, answer("a cat"))) as (url, seen):
        monkeypatch.setenv("MY_SERVER", KEY + ending)
        with closing(open_endpoint(url, "m", "MY_SERVER")) as endpoint:
            assert ask(endpoint, Question([{"role": "user", "content": "?"}], 8)).text == "a cat"
        assert seen[0][1] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "key", ["sk-do-not\nshow-4711", "sk-do-not show-4711", "sk-dö-not-show-4711", "sk-do\x7fnot-show"]
)
def test_e6_a_key_that_no_header_can_hold_is_refused_unseen(monkeypatch, key):
    error = refused("http://127.0.0.1:9/v1", monkeypatch, key)
    assert "the key in MY_SERVER holds" in str(error) and "show" not in error.lines.replace("not", "")


@pytest.mark.parametrize(
    "said",
    [
        {"error": f"bad header: Authorization: Bearer {KEY}"},
        {"error": "x" * 190 + KEY},
        {"error": json.dumps({"got": KEY})},
        [f"Basic {KEY}"],
    ],
)
@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_e6_a_server_that_echoes_the_key(monkeypatch, status, said):
    with server(lambda number, body: (status, {}, said)) as (url, _):
        error = refused(url, monkeypatch)
    assert KEY not in error.lines and "sk-do" not in error.lines and len(error.lines.splitlines()) <= 2
    assert KEY not in repr(error) and KEY not in str(error.args)


def test_e6_user_and_password_of_an_address(monkeypatch):
    with (
        server(lambda number, body: (403, {}, {"got": "hunter2-long"})) as (url, seen),
        closing(open_endpoint(url.replace("://", "://ada:hunter2-long@"), "m", None)) as endpoint,
    ):
        assert "hunter2" not in repr(endpoint) and "hunter2" not in endpoint.url
        with pytest.raises(RelopeError) as caught:
            ask(endpoint, Question([{"role": "user", "content": "?"}], 8))
    assert seen[0][1].startswith("Basic ") and "hunter2" not in caught.value.lines and "ada" not in caught.value.lines
    for uri in ("ftp://ada:hunter2@host/x", "s3://ada:hunter2@bucket/x.zarr"):
        with pytest.raises(InvalidInputError) as caught:
            parse_uri(uri)
        assert "hunter2" not in caught.value.lines
    with pytest.raises(InvalidInputError) as caught:
        open_endpoint("http://ada:hunter2@host:port/v1", "m", None)
    assert "hunter2" not in caught.value.lines


def test_e6_one_redactor(monkeypatch):
    monkeypatch.setenv("SOME_API_TOKEN", "abcdefgh12345")
    monkeypatch.setenv("KEY_FILE", "/home/ada/.keys/one")
    hide('we"ird')
    assert redacted("a abcdefgh12345 b") == "a … b" and redacted(r"{\"x\": \"we\"ird\"}").count("ird") == 0
    assert redacted("no /home/ada/.keys/one") == "no /home/ada/.keys/one", "the name of a file is no secret"
    assert redacted("hf://datasets/a/b@main and mail@host") == "hf://datasets/a/b@main and mail@host"
    assert str(InvalidInputError("Authorization: Bearer abcdef123456")) == "Authorization: Bearer …"


def test_e6_a_key_in_the_query_of_an_address():
    from relope.command_line import command_line
    from relope.spec import ExtractSpec

    url = "http://ada:hunter2-long@h/v1?api-version=1&key=sk-geheim-4711&x=2"
    told = command_line(ExtractSpec(model="m", dataset="tiny", endpoint=url))
    assert "h/v1?api-version=1&key=…&x=2" in told and "geheim" not in told and "hunter2" not in told
    assert redacted(f"cannot reach {url}: no") == "cannot reach http://…@h/v1?api-version=1&key=…&x=2: no"
    endpoint = open_endpoint("http://h/v1?api_key=sk-geheim-4711", "m", None)
    assert "geheim" not in repr(endpoint) and endpoint.url == "http://h/v1/chat/completions"
    assert redacted("is it a key? yes: a=b&c=d") == "is it a key? yes: a=b&c=d"
