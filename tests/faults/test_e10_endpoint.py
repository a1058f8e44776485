"""E10, a server of answers: whatever a server says ends in a line or two."""

import socket
import threading
from contextlib import closing, contextmanager

import pytest

from relope.errors import RelopeError
from relope.extract.endpoint import client
from relope.extract.endpoint.address import open_endpoint
from relope.extract.endpoint.client import Question, ask

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "no status line": b"hello\r\n\r\n",
    "bad status": b"HTTP/1.1 abc def\r\n\r\n",
    "status 999999": b"HTTP/1.1 999999 x\r\nContent-Length: 0\r\n\r\n",
    "nothing": b"",
    "bad chunks": OK + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\nhello\r\n",
    "a chunk cut short": OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\nhello",
    "a body cut short": OK + b"Content-Length: 900\r\n\r\n{",
    "a header of 100 kB": OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n{}",
    "200 headers": OK + b"".join(b"X-%d: 1\r\n" % number for number in range(200)) + b"\r\n{}",
    "deep JSON": OK + b"Content-Length: 100000\r\n\r\n" + b"[" * 100_000,
    "no JSON": OK + b"Content-Length: 3\r\n\r\nabc",
    "a wait of ²": "HTTP/1.1 503 busy\r\nRetry-After: ²\r\nContent-Length: 0\r\n\r\n".encode(),
    "an endless wait": b"HTTP/1.1 429 busy\r\nRetry-After: " + b"9" * 400 + b"\r\nContent-Length: 0\r\n\r\n",
    "an error cut short": b"HTTP/1.1 400 no\r\nContent-Length: 900\r\n\r\n{",
    "a redirect": b"HTTP/1.1 302 go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "content of a number": OK + b'Content-Length: 43\r\n\r\n{"choices": [{"message": {"content": 4711}}]}'[:46],
}


@contextmanager
def saying(answer):
    """Serve the same bytes to whoever connects."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.1)
    over = threading.Event()

    def serve():
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(2)
                connection.recv(1 << 16)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        over.set()
        thread.join()
        listening.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch, no_waits):
    monkeypatch.setattr(client, "ATTEMPTS", 2)


@pytest.mark.parametrize("kind", ANSWERS)
def test_e10_whatever_a_server_says(kind):
    with (
        saying(ANSWERS[kind]) as url,
        closing(open_endpoint(url, "m", None)) as endpoint,
        pytest.raises(RelopeError) as caught,
    ):
        ask(endpoint, Question([{"role": "user", "content": "?"}], 8))
    assert len(caught.value.lines.splitlines()) <= 2 and len(caught.value.lines) < 600


@pytest.mark.parametrize(
    "url", ["http://h:99999", "http://h:x/v1", "http://h:0", "http://[::1", "http://", "http:///v1", "ftp://h", "h",
            "http://a b", "http://h\n/v1", "http://" + "a" * 80 + ".x", "https://:8000/v1", "http://h:-1"],
)  # fmt: skip
def test_e10_odd_addresses(url):
    with pytest.raises(RelopeError) as caught:
        open_endpoint(url, "m", None)
    assert "endpoint" in str(caught.value) and len(caught.value.lines.splitlines()) <= 2
