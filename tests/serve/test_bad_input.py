"""Bad requests over real HTTP: the right status in OpenAI's shape, nothing of the text told, and the server goes on."""

import base64
import contextlib
import io
import json
import socket
import struct
import time
import zlib

import httpx
import openai
import pytest
from PIL import Image
from upstream_stub import ANSWER, until

from relope.serve.limits import Limits

HEAD = {"content-type": "application/json"}
SECRET = "the-secret-of-the-prompt"


def user(content):
    return {"messages": [{"role": "user", "content": content}]}


def image(url):
    return user([{"type": "text", "text": SECRET}, {"type": "image_url", "image_url": {"url": url}}])


def data_uri(encoded, kind="png"):
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


def bomb(width, height):
    """Return a PNG that says it is huge, and holds next to nothing."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def encoded(kind, size=(4, 4)):
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, kind)
    return buffer.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'

BAD = {
    "no JSON": (b'{"messages": [', 400),
    "no object": (b"[1]", 400),
    "no UTF-8": (b'{"messages": "\xff"}', 400),
    "NaN": (b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}', 400),
    "a number too long": (b'{"seed": ' + b"9" * 5000 + b"}", 400),
    "deep": (b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
    "half a surrogate": (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400),
    "empty": (b"", 400),
    "no messages": ({}, 400),
    "messages of none": ({"messages": []}, 400),
    "messages no list": ({"messages": "hello"}, 400),
    "a message no object": ({"messages": ["hello"]}, 400),
    "a wrong role": ({"messages": [{"role": "wizard", "content": SECRET}]}, 400),
    "no role": ({"messages": [{"content": SECRET}]}, 400),
    "no user": ({"messages": [{"role": "system", "content": SECRET}]}, 400),
    "content a number": (user(3), 400),
    "a part of no kind": (user([{"text": SECRET}]), 400),
    "a part of another kind": (user([{"type": "hologram", "text": SECRET}]), 400),
    "a text part without text": (user([{"type": "text"}]), 400),
    "an image part without image": (user([{"type": "image_url"}]), 400),
    "10,000 parts": (user([{"type": "text", "text": "a"}] * 10_000), 413),
    "10,000 messages": ({"messages": [{"role": "user", "content": "a"}] * 10_000}, 413),
    "temperature too high": ({**user(SECRET), "temperature": 3}, 400),
    "temperature a text": ({**user(SECRET), "temperature": "1"}, 400),
    "temperature infinite": (b'{"messages": [{"role": "user", "content": "a"}], "temperature": 1e999}', 400),
    "top_p zero": ({**user(SECRET), "top_p": 0}, 400),
    "negative max_tokens": ({**user(SECRET), "max_tokens": -1}, 400),
    "max_tokens true": ({**user(SECRET), "max_tokens": True}, 400),
    "max_tokens beyond": ({**user(SECRET), "max_tokens": 10**9}, 400),
    "two lengths": ({**user(SECRET), "max_tokens": 3, "max_completion_tokens": 4}, 400),
    "n zero": ({**user(SECRET), "n": 0}, 400),
    "seed too long": ({**user(SECRET), "seed": 2**70}, 400),
    "five stops": ({**user(SECRET), "stop": list("abcde")}, 400),
    "an empty stop": ({**user(SECRET), "stop": ""}, 400),
    "stream a text": ({**user(SECRET), "stream": "yes"}, 400),
    "stream_options alone": ({**user(SECRET), "stream_options": {"include_usage": True}}, 400),
    "response_format a list": ({**user(SECRET), "response_format": [1]}, 200),
    "base64 garbage": (image("data:image/png;base64,@@@@"), 400),
    "no image in it": (image(data_uri(b"nothing of an image")), 400),
    "an empty image": (image("data:image/png;base64,"), 400),
    "half an image": (image(data_uri(encoded("PNG", (64, 64))[:60])), 400),
    "an SVG": (image("data:image/svg+xml;base64," + base64.b64encode(SVG).decode()), 400),
    "an SVG that says PNG": (image(data_uri(SVG)), 400),
    "a TIFF that says PNG": (image(data_uri(encoded("TIFF"))), 400),
    "a BMP that says PNG": (image(data_uri(encoded("BMP"))), 400),
    "a pixel bomb": (image(data_uri(bomb(60_000, 60_000))), 400),
    "a smaller pixel bomb": (image(data_uri(bomb(5000, 5000))), 413),
    "no pixels": (image(data_uri(bomb(0, 5))), 400),
    "a path": (image("/etc/passwd"), 400),
    "a file": (image("file:///etc/passwd"), 400),
    "http": (image("http://127.0.0.1/x.png"), 400),
    "https of nobody": (image("https://169.254.169.254/latest/meta-data"), 400),
    "https with a user": (image("https://a@example.org/x.png"), 400),
    "an address of none": (image("https://[::1/x.png"), 400),
    "17 images": (user([{"type": "image_url", "image_url": {"url": "data:,"}}] * 17), 413),
}


@pytest.fixture(scope="module")
def server():
    """One server for all of it: it has to go on."""
    from made_bundle import made_bundle
    from stub_engine import StubEngine
    from upstream_stub import served, upstream

    from relope.serve.large import LargeModel
    from relope.serve.service import Options, Service

    with upstream() as (url, state):
        limits = Limits(body_bytes=1 << 20, body_s=0.5, header_s=0.5)
        service = Service(made_bundle(), StubEngine(), LargeModel(base_url=url, name="big"), Options(limits=limits))
        with served(service) as address:
            yield address, service, state


@pytest.mark.parametrize("name", BAD)
def test_bad_bodies(server, name, caplog):
    url, service, state = server
    body, status = BAD[name]
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    before = len(state.seen)
    answer = httpx.post(f"{url}/v1/chat/completions", content=raw, headers=HEAD)
    assert answer.status_code == status, answer.text
    if status != 200:
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
        assert SECRET not in answer.text + caplog.text and "\n" not in error["message"] and len(error["message"]) < 200
        assert len(state.seen) == before and not service.engine.live
    assert httpx.post(f"{url}/v1/chat/completions", json=user("score=0.9")).json()["model"] == "tiny-small"


def test_the_sdk_raises_its_own_errors(server):
    with openai.OpenAI(base_url=f"{server[0]}/v1", api_key="x", max_retries=0) as sdk:
        with pytest.raises(openai.BadRequestError) as error:
            sdk.chat.completions.create(model="m", messages=[{"role": "wizard", "content": "a"}])
        assert error.value.param == "messages.0.role"
        with pytest.raises(openai.NotFoundError):
            sdk.embeddings.create(model="m", input="a")


@pytest.mark.parametrize(("headers", "status"), [
    ({"content-type": "text/plain"}, 415), ({}, 415), ({**HEAD, "host": "evil.example"}, 403),
    ({**HEAD, "x-relope-route": "small"}, 403), ({**HEAD, "x-relope-threshold": "0.1"}, 403),
    ({**HEAD, "x-relope-session": "s" * 300}, 400),
])  # fmt: skip
def test_bad_headers(server, headers, status):
    answer = httpx.post(f"{server[0]}/v1/chat/completions", content=json.dumps(user("a")), headers=headers)
    assert answer.status_code == status and answer.json()["error"]["message"]


def test_a_body_that_is_too_long(server):
    said = httpx.post(f"{server[0]}/v1/chat/completions", json=user("a" * (2 << 20)))
    assert said.status_code == 413 and "1,048,576 bytes" in said.json()["error"]["message"]

    def unsaid():
        for _ in range(40):
            yield b" " * (64 << 10)

    with contextlib.suppress(httpx.WriteError):  # it may hang up while we are still writing
        assert httpx.post(f"{server[0]}/v1/chat/completions", content=unsaid(), headers=HEAD).status_code == 413


def connected(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=5)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat/comp", b"POST / HTTP/1.1\r\nhost: localhost\r\nx"])
def test_a_client_that_is_slow_with_its_headers_is_hung_up_on(server, sent):
    with connected(server[0]) as wire:
        wire.sendall(sent)
        began = time.perf_counter()
        assert wire.recv(100) == b"" and 0.3 < time.perf_counter() - began < 3


def test_a_client_that_is_slow_with_its_body_is_told(server):
    with connected(server[0]) as wire:
        wire.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
        )
        assert wire.recv(4096).startswith(b"HTTP/1.1 408")


def test_what_is_no_http(server):
    with connected(server[0]) as wire:
        wire.sendall(b"\x16\x03\x01\x02\x00 hello\r\n\r\n")
        assert wire.recv(4096).startswith(b"HTTP/1.1 400")
    assert httpx.get(f"{server[0]}/health").status_code == 200


@pytest.mark.parametrize(("path", "body"), [
    ("relope/feedback", {"request_id": "x", "correct": True}), ("relope/feedback", {"correct": True}),
    ("relope/feedback", {"request_id": "req_" + "0" * 24, "correct": 1}), ("relope/score", {"requests": "a"}),
    ("relope/score", {"requests": []}), ("relope/score", {"requests": [1]}), ("relope/score", {}),
])  # fmt: skip
def test_bad_bodies_elsewhere(server, path, body):
    answer = httpx.post(f"{server[0]}/v1/{path}", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["message"]


def leave(url, text, after_s, stream):
    """Send a request and hang up."""
    with connected(url) as wire:
        body = json.dumps({**user(text), "stream": stream}).encode()
        wire.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        time.sleep(after_s)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("text", "delay_s", "piece_s", "after_s"), [
    ("score=0.9 before", 0.5, 0.0, 0.0), ("score=0.9 during", 0.5, 0.0, 0.2),
    ("score=0.9" + " after" * 30, 0.0, 0.1, 0.4),
])  # fmt: skip
def test_a_client_that_leaves_frees_its_row(server, text, delay_s, piece_s, after_s, stream):
    url, service, _ = server
    service.engine.delay_s, service.engine.piece_s = delay_s, piece_s
    try:
        leave(url, text, after_s, stream)
        assert until(lambda: not service.engine.live)
        assert until(lambda: service.metrics.cancelled._value.get() > 0)
    finally:
        service.engine.delay_s = service.engine.piece_s = 0.0
    answer = httpx.post(f"{url}/v1/chat/completions", json=user("score=0.1"))
    assert answer.json()["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.parametrize("after_s", [0.1, 0.5])
def test_a_client_that_leaves_ends_the_call_to_the_large_model(server, after_s):
    url, service, state = server
    state.modes = ["slow"]
    leave(url, "score=0.1", after_s, True)
    assert until(lambda: state.open == 0) and until(lambda: service.large.purse.under_way == 0)
    assert service.large._turn._value == service.large.model.concurrent
