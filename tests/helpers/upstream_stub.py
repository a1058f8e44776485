"""An OpenAI-compatible server for tests, which does what its next ``modes`` say; and a relope server in a thread."""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER = "large: it is so"


class Upstream:
    """Attributes: ``modes`` of the next requests (then ``ok``), and ``seen``: path, headers and body of each."""

    def __init__(self):
        self.modes, self.seen, self.open = [], [], 0
        self.pause_s = 0.0


def _chunks(body):
    head = {"id": "chatcmpl-large", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    usage = bool((body.get("stream_options") or {}).get("include_usage"))
    for word in ANSWER.split(" "):
        yield {**head, "choices": [{"index": 0, "delta": {"content": word + " "}, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    if usage:
        yield {**head, "choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}}


def until(true, seconds=5):
    """Return whether something comes true in time."""
    end = time.perf_counter() + seconds
    while not true() and time.perf_counter() < end:
        time.sleep(0.02)
    return true()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        state = self.server.state
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        state.seen.append((self.path, dict(self.headers), body))
        mode = state.modes.pop(0) if state.modes else "ok"
        if state.pause_s:
            time.sleep(state.pause_s)
        if mode == "nothing":
            self.close_connection = True
            return
        if mode == "hang":
            time.sleep(3)
            self.close_connection = True
            return
        if mode == "html":
            self._send(200, b"<html>busy</html>", "text/html")
        elif mode == "429":
            self._send(429, b'{"error": {"message": "slow down"}}', further={"retry-after": "30"})
        elif mode == "429-short":
            self._send(429, b'{"error": {"message": "slow down"}}', further={"retry-after": "0"})
        elif mode.isdigit():
            self._send(int(mode), json.dumps({"error": {"message": f"upstream {mode}", "type": "x"}}).encode())
        elif mode == "cut-body":
            self._send(200, b'{"choices": [', length=100)
            self.close_connection = True
        elif body.get("stream"):
            self._stream(body, mode, state)
        else:
            message = {"role": "assistant", "content": ANSWER}
            answer = {
                "id": "chatcmpl-large", "object": "chat.completion", "created": 1, "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15},
            }  # fmt: skip
            self._send(200, json.dumps(answer).encode())

    def _stream(self, body, mode, state):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        state.open += 1
        try:
            if mode == "comment":
                for _ in range(2):
                    self._chunk(b": OPENROUTER PROCESSING\n\n")
            for number, value in enumerate(_chunks(body)):
                event = b"data: " + json.dumps(value).encode() + b"\n\n"
                if mode == "half" and number == 2:
                    self._chunk(event[:20])
                    self.close_connection = True
                    return
                if mode == "no-end" and number == 3:
                    break
                if mode == "flood":
                    event = event.replace(b", ", b"," + b" " * 4_000_000, 1)
                if mode == "slow":
                    time.sleep(0.2)
                self._chunk(event)
            if mode != "no-end":
                self._chunk(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
        finally:
            state.open -= 1

    def _chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _send(self, status, body, kind="application/json", further=None, length=None):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(length or len(body)))
        for name, value in (further or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass


@contextlib.contextmanager
def upstream():
    """Give an upstream's base URL and its state."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.state = Upstream()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", server.state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def served(service, access=None):
    """Run a relope server in a thread; give its address."""
    from relope.serve.access import Access
    from relope.serve.server import Server

    started, found = threading.Event(), []
    server = Server(service, access or Access(), "127.0.0.1", 0, lambda url: (found.append(url), started.set()))
    thread = threading.Thread(target=server.serve_until_told, daemon=True)
    thread.start()
    assert started.wait(20)
    try:
        yield found[0]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
