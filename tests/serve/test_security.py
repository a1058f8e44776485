"""Keys, addresses, images of other hosts, and what a log can be made to hold."""

import asyncio
import json
import shutil

import httpx
import polars as pl
import pytest
from made_bundle import made_bundle
from stub_engine import StubEngine
from upstream_stub import until

from relope.errors import InvalidInputError, NotFoundError
from relope.serve import fetch
from relope.serve.access import KEY_VARIABLE, Access, check_address, read_key
from relope.serve.limits import Limits
from relope.serve.log import FIELDS
from relope.serve.policy import Settings
from relope.serve.problems import Problem

KEY, ADMIN = "k" * 24, "a" * 24
BODY = {"messages": [{"role": "user", "content": "score=0.9"}]}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_other_machines_need_a_key(host):
    with pytest.raises(InvalidInputError, match="needs an API key"):
        check_address(host, "")
    check_address(host, KEY)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.9"])
def test_this_machine_needs_none(host):
    check_address(host, "")


def test_keys_come_from_a_file_or_a_variable(tmp_path, monkeypatch):
    assert read_key(None, KEY_VARIABLE) == ""
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert read_key(None, KEY_VARIABLE) == KEY
    (tmp_path / "key").write_text(f"{ADMIN}\n")
    assert read_key(tmp_path / "key", KEY_VARIABLE) == ADMIN
    for bad in (b"short", b"", b"two lines of it\nand more of it", b"\xff" * 20, b"with a space in it here"):
        (tmp_path / "key").write_bytes(bad)
        with pytest.raises(InvalidInputError):
            read_key(tmp_path / "key", KEY_VARIABLE)
    with pytest.raises(NotFoundError):
        read_key(tmp_path / "none", KEY_VARIABLE)


def test_with_a_key_everything_but_health_needs_it(serving):
    url, _, _ = serving(access=Access(KEY, ADMIN))
    for method, path in (("POST", "/v1/chat/completions"), ("POST", "/v1/relope/score"), ("GET", "/v1/models"),
                         ("GET", "/metrics"), ("GET", "/"), ("POST", "/v1/relope/feedback"),
                         ("PUT", "/v1/relope/threshold")):  # fmt: skip
        for headers in ({}, {"authorization": f"Bearer {KEY}x"}, {"authorization": "Bearer"}, {"authorization": KEY},
                        {"authorization": "Basic !"}):  # fmt: skip
            answer = httpx.request(method, f"{url}{path}", json=BODY, headers=headers)
            assert answer.status_code == 401 and answer.json()["error"]["type"] == "authentication_error"
    assert httpx.get(f"{url}/health").status_code == httpx.get(f"{url}/ready").status_code == 200
    good = {"authorization": f"Bearer {KEY}", "host": "router.example"}
    assert httpx.post(f"{url}/v1/chat/completions", json=BODY, headers=good).status_code == 200
    assert httpx.post(f"{url}/v1/chat/completions", json=BODY, headers={"x-relope-api-key": KEY}).status_code == 200
    assert httpx.get(url, auth=("", KEY)).status_code == 200, "a browser asks for a password"


def test_only_an_admin_moves_the_threshold(serving):
    url, service, _ = serving(access=Access(KEY, ADMIN))
    path = f"{url}/v1/relope/threshold"
    put = lambda value, key: httpx.put(path, json={"threshold": value}, headers={"authorization": f"Bearer {key}"})  # noqa: E731
    assert put(0.95, KEY).status_code == 401 and service.engine.threshold == 0.5
    for bad in (2, -1, "0.1", True, [], "x"):
        assert put(bad, ADMIN).status_code == 400
    assert put(0.95, ADMIN).json() == {"object": "relope.threshold", "threshold": 0.95, "promised": False}
    escalated = httpx.post(f"{url}/v1/chat/completions", json=BODY, headers={"authorization": f"Bearer {KEY}"})
    assert escalated.headers["x-relope-route"] == "large" and escalated.headers["x-relope-threshold"] == "0.95"
    assert put(None, ADMIN).json()["promised"] and httpx.get(path, headers={"x-relope-api-key": KEY}).json()["promised"]


def test_without_an_admin_key_nobody_does(serving):
    url, _, _ = serving()
    assert httpx.put(f"{url}/v1/relope/threshold", json={"threshold": 0.1}).status_code == 403


def refused(work):
    with pytest.raises(Problem) as problem:
        asyncio.run(work) if asyncio.iscoroutine(work) else work()
    return problem.value.code


@pytest.mark.parametrize("url", [
    "http://images.example/x.png", "https://images.example:444/x.png", "https://other.example/x.png",
    "https://images.example@evil.example/x", "https://u:p@images.example/x", "ftp://images.example/x",
    "//images.example/x", "https://images.example.evil.example/x", "https:///x", "file:///etc/passwd",
    "https://[/x", "https://images.example:x/",
])  # fmt: skip
def test_only_allowed_hosts_by_https(url):
    assert refused(lambda: fetch.allowed(url, {"images.example"}, "p")) in ("invalid_image", "image_host")
    assert fetch.allowed("https://Images.Example/x.png", {"images.example"}, "p").hostname == "images.example"


@pytest.mark.parametrize("addresses", [
    ["127.0.0.1"], ["10.1.2.3"], ["169.254.169.254"], ["::1"], ["fd00::1"], ["fe80::1%eth0"], ["0.0.0.0"],
    ["224.0.0.1"], ["::ffff:127.0.0.1"], ["::ffff:10.0.0.1"], ["2002:7f00:1::"], ["100.64.0.1"],
    ["93.184.215.14", "10.0.0.1"], [], ["x"], ["64:ff9b::7f00:1"],
])  # fmt: skip
def test_addresses_of_the_own_network_are_refused(addresses):
    async def resolver(host, port):
        return addresses

    split = fetch.allowed("https://images.example/x", {"images.example"}, "p")
    assert refused(fetch.pinned(split, "p", resolver)) == "image_host"


def test_the_address_is_pinned_and_nothing_is_followed():
    async def resolver(host, port):
        return ["93.184.215.14"]

    asked = []

    def answer(request):
        asked.append(request)
        if request.url.path == "/moved":
            return httpx.Response(302, headers={"location": "http://127.0.0.1/"})
        return httpx.Response(200, content=blocks(200 if request.url.path == "/long" else 1))

    async def blocks(n):
        for _ in range(n):
            yield b"x" * 10

    async def get(path):
        split = fetch.allowed(f"https://images.example{path}", {"images.example"}, "p")
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            address = await fetch.pinned(split, "p", resolver)
            return await fetch.fetch(client, split, address, Limits(image_bytes=1000), "p")

    assert asyncio.run(get("/a%20b?c=d")) == b"x" * 10
    assert str(asked[0].url) == "https://93.184.215.14/a%20b?c=d" and asked[0].headers["host"] == "images.example"
    assert asked[0].extensions["sni_hostname"] == "images.example"
    assert refused(get("/moved")) == "image_host" and refused(get("/long")) == "too_large" and len(asked) == 3
    assert refused(get("/ä")) == "image_host"


def test_overrides_where_the_operator_allows(serving):
    url, _, state = serving(policy=Settings(overrides=True))
    post = lambda **headers: httpx.post(  # noqa: E731
        f"{url}/v1/chat/completions", json=BODY, headers={f"x-relope-{k}": v for k, v in headers.items()}
    )
    assert post(route="large").headers["x-relope-reason"] == "forced" and len(state.seen) == 1
    assert post(threshold="0.95").headers["x-relope-route"] == "large"
    low = httpx.post(f"{url}/v1/chat/completions", json={"messages": [{"role": "user", "content": "score=0.1"}]},
                     headers={"x-relope-route": "small"})  # fmt: skip
    assert low.json()["model"] == "tiny-small" and low.headers["x-relope-reason"] == "forced"
    assert low.headers["x-relope-score"] == "0.100000"
    for bad in ({"route": "medium"}, {"threshold": "nan"}, {"threshold": "x"}, {"threshold": "7"}):
        assert post(**bad).status_code == 400


FORGED = 'score=0.9 "}\n{"kind": "decision", "request_id": "req_forged", "route": "small"}\r\n\u2028'


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_log_has_no_text_and_no_forged_line(serving, tmp_path, caplog):
    path = tmp_path / "logs" / "decisions.jsonl"
    url, _, _ = serving(log=path)
    for body in ({"messages": [{"role": "user", "content": FORGED}], "user": FORGED},
                 {"messages": [{"role": "user", "content": FORGED}], "model": FORGED, "temperature": 9}):  # fmt: skip
        httpx.post(f"{url}/v1/chat/completions", json=body, headers={"x-relope-session": "a\tb"})
    assert until(lambda: len(read_lines(path)) == 1), "what is refused before anybody is asked is counted, not logged"
    (line,) = read_lines(path)
    assert line["score"] == 0.9 and line["ended"] == "done" and "forged" not in path.read_text() + caplog.text
    assert set(line) <= set(FIELDS) and path.stat().st_mode & 0o077 == 0


def test_prompts_are_logged_where_the_operator_says(serving, tmp_path):
    path = tmp_path / "decisions.jsonl"
    url, _, _ = serving(log=path, log_prompts=True)
    httpx.post(f"{url}/v1/chat/completions", json={"messages": [{"role": "user", "content": FORGED}]})
    assert until(lambda: len(read_lines(path)) == 1) and len(path.read_text().splitlines()) == 1
    assert json.loads(read_lines(path)[0]["messages"]) == [["user", [FORGED]]]


def test_a_folder_gets_parquet_parts(large, tmp_path):
    from upstream_stub import served

    from relope.serve.large import LargeModel
    from relope.serve.service import Options, Service

    service = Service(
        made_bundle(), StubEngine(), LargeModel(base_url=large[0], name="big"), Options(log=tmp_path / "log")
    )
    with served(service) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=BODY)
        about = {"request_id": answer.headers["x-relope-request-id"], "correct": True}
        assert httpx.post(f"{url}/v1/relope/feedback", json=about).status_code == 200
    (part,) = (tmp_path / "log").glob("*.parquet")
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0
    rows = pl.read_parquet(part)
    assert rows["kind"].to_list() == ["decision", "feedback"] and rows["correct"].to_list() == [None, True]
    assert rows["request_id"].n_unique() == 1 and rows.columns == list(FIELDS)


def test_a_full_disk_ends_no_request(serving, tmp_path, monkeypatch):
    url, service, _ = serving(log=tmp_path / "d.jsonl")

    def full(record):
        raise OSError("no space left on device")

    monkeypatch.setattr(service.log, "write", full)
    assert httpx.post(f"{url}/v1/chat/completions", json=BODY).status_code == 200
    assert until(lambda: service.metrics.unlogged._value.get() == 1)


def test_a_part_that_cannot_be_written_counts_for_each_of_its_records(serving, tmp_path):
    url, service, _ = serving(log=tmp_path / "log")
    for _ in range(2):
        assert httpx.post(f"{url}/v1/chat/completions", json=BODY).status_code == 200
    assert until(lambda: len(service.log._rows) == 2)
    shutil.rmtree(tmp_path / "log")
    (tmp_path / "log").write_text("something else stands there")
    service._logged(service.log.close)
    assert service.metrics.unlogged._value.get() == 2


def test_a_bug_of_ours_tells_no_text(serving, monkeypatch, caplog):
    url, service, _ = serving()

    def broken(query):
        raise ValueError("the-secret-of-the-prompt")

    monkeypatch.setattr(service.engine, "can", broken)
    answer = httpx.post(f"{url}/v1/chat/completions", json=BODY)
    assert answer.status_code == 500 and "secret" not in answer.text + caplog.text and "ValueError" in caplog.text
