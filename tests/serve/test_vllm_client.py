"""What answers where a vLLM server should: said in a line, whatever it is."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from relope.errors import InvalidInputError, OutputError
from relope.serve.apart.client import Client, ServerGone
from relope.serve.engine import EngineError, Message, Query

QUERY = Query(messages=(Message("user", ("?",)),))
HTML, JSON, STREAM = "text/html", "application/json", "text/event-stream"


@contextmanager
def answering(body, kind=JSON, status=200):
    """Give a client of a server that answers everything with one body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = Client(f"http://127.0.0.1:{server.server_address[1]}/v1", "m", 2)
    try:
        yield client
    finally:
        client.close()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("body", ["<html>", "[]", '{"data": [{}]}', '{"data": 3}'])
def test_what_tells_no_models_is_no_vllm_server(body):
    with answering(body) as client, pytest.raises(OutputError, match="is no vLLM server"):
        client.check()


def test_a_server_of_nothing_serves_nothing():
    with answering('{"data": []}') as client, pytest.raises(InvalidInputError, match="serves nothing"):
        client.check()


@pytest.mark.parametrize(("body", "status", "error", "says"), [
    ("<html>", 200, EngineError, "something else than JSON"),
    ("[]", 200, EngineError, "something else than JSON"),
    ("no", 503, ServerGone, "status 503"),
    ("no", 404, EngineError, "status 404"),
])  # fmt: skip
def test_a_prompt_that_is_not_read_is_told(body, status, error, says):
    with answering(body, status=status) as client, pytest.raises(error, match=says) as told:
        client.states([])
    assert isinstance(told.value, ServerGone) == (status == 503)


@pytest.mark.parametrize(("body", "says"), [
    ('data: {"error": {"message": "secret"}}\n\n', "broke off with an error"),
    ('data: {"choices": 3}\n\n', "something else than an answer"),
    ('data: {"choices": [{"token_ids": ["x"]}]}\n\n', "something else than an answer"),
    ('data: {"choices": []}\n\ndata: [DONE]\n\n', "without an end"),
    ("", "without an end"),
])  # fmt: skip
def test_a_stream_that_is_no_answer_breaks_off(body, says):
    with answering(body, STREAM) as client, pytest.raises(ServerGone, match=says) as told:
        list(client.answer([], QUERY, 4, []))
    assert "secret" not in str(told.value)


def test_a_stream_that_is_refused_is_no_stream():
    with answering("busy", status=500) as client, pytest.raises(ServerGone, match="status 500"):
        next(client.answer([], QUERY, 4, []))


def test_nobody_at_the_address_is_told():
    client = Client("http://127.0.0.1:1", "m", 1)
    with pytest.raises(ServerGone, match="does not answer"):
        client.states([])
    with pytest.raises(ServerGone, match="broke off"):
        next(client.answer([], QUERY, 4, []))
    client.close()
