"""A server of OpenAI's chat completions on the loopback, for tests: answers by question and image, faults on demand.

::

    with Stub({key_of(messages): "a cat"}) as stub:
        client = openai.OpenAI(base_url=stub.url, api_key="sk-test")
        ...
        stub.counts[key_of(messages)]  # how often it was asked

It streams (``stream: true``), tells log-probs and usage, counts requests, and has the batch interface
(``/files``, ``/batches``). It is one event loop on a thread of its own, and quick: hundreds of requests a second.
"""

import asyncio
import base64
import email.parser
import hashlib
import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

Body = dict[str, Any]


def key_of(messages: Any) -> str:
    """Return the sha256 (hex) of what a request asks: roles, texts, and the digest of each image."""
    said = []
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        said.append([message["role"], [_part(part) for part in parts]])
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _part(part: Any) -> str:
    return part["text"] if part["type"] == "text" else image_digest(part["image_url"]["url"])


def image_digest(uri: str) -> str:
    """Return the sha256 (hex) of the bytes in a data URI."""
    return hashlib.sha256(base64.b64decode(uri.partition(",")[2])).hexdigest()


@dataclass(frozen=True)
class Reply:
    """What the model says: the text, and what is told beside it.

    Attributes:
        text: of the answer.
        logprobs: of its tokens, told where they are asked for; None = 0.9 each.
        tokens: that the text is cut into; None = its words.
        usage: as the server tells it; None counts words, and 85 tokens an image.
        finish_reason: why it stopped.
        model: what the server calls the model.
    """

    text: str
    logprobs: tuple[float, ...] | None = None
    tokens: tuple[str, ...] | None = None
    usage: Body | None = None
    finish_reason: str = "stop"
    model: str = "stub-2026-01-01"


@dataclass(frozen=True)
class Fault:
    """What goes wrong in the place of an answer.

    Attributes:
        status: of the response.
        body: JSON, or bytes as they are.
        headers: beside the usual ones.
        hangs: nothing comes at all.
        cut: the connection ends after so many bytes of the body.
        delay_s: before it comes.
    """

    status: int = 500
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    cut: int | None = None
    delay_s: float = 0.0


HTML = Fault(200, b"<!DOCTYPE html><html><body>It works!</body></html>", {"Content-Type": "text/html"})
HANGS = Fault(hangs=True)
BUSY = Fault(429, {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}, {"Retry-After": "0"})
WRONG_KEY = Fault(401, {"error": {"message": "Incorrect API key provided: sk-…", "code": "invalid_api_key"}})
NO_MODEL = Fault(404, {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}})
FILTERED = Fault(400, {"error": {"message": "The response was filtered", "code": "content_filter"}})
HALF = Fault(200, {"choices": [{"message": {"role": "assistant", "content": "half an answer"}}]}, cut=40)
HUGE = Fault(200, {"choices": [{"message": {"role": "assistant", "content": "x" * (5 << 20)}}]})

Answerer = Callable[[Body], Reply | str]


class Stub:
    """The server; a context manager.

    Attributes:
        requests: path, headers (lower case) and body of each request for a completion, in the order of arrival.
        counts: `key_of` each request → how often it was asked, faults included.
        url: base URL, with ``/v1``.
    """

    def __init__(
        self,
        answers: Mapping[str, Reply | str] | Answerer | None = None,
        *,
        fault: Callable[[int, Body], Fault | None] = lambda number, body: None,
        latency_s: float = 0.0,
        batch_polls: int = 2,
    ) -> None:
        """Answer by a table of `key_of` → answer, or by a function of the body.

        Args:
            answers: a question that is not in the table gets ``404``.
            fault: ``(number of the request, from 1; body)`` → what goes wrong with it.
            latency_s: before each answer.
            batch_polls: so often a batch is still in progress.
        """
        self.answers = {} if answers is None else answers
        self.fault, self.latency_s, self.batch_polls = fault, latency_s, batch_polls
        self.requests: list[tuple[str, dict[str, str], Body]] = []
        self.counts: Counter[str] = Counter()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Body] = {}
        self.in_flight = self.most_in_flight = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Stub":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _serve(self) -> None:
        self._loop.run_until_complete(self._main())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 20, backlog=512)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, _, rest = head.partition("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value for name, value in email.parser.HeaderParser().parsestr(rest).items()}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        if path.partition("?")[0].endswith("/chat/completions"):
            return await self._completion(path, headers, json.loads(content), writer)
        status, said = self._other(method, path.partition("?")[0], headers, content)
        await _send(writer, status, said)
        return True

    async def _completion(self, path: str, headers: dict[str, str], body: Body, writer: asyncio.StreamWriter) -> bool:
        self.requests.append((path, headers, body))
        number = len(self.requests)
        self.counts[key_of(body["messages"])] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if (fault := self.fault(number, body)) is not None:
                return await _fail(writer, fault)
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            reply = self.reply(body)
            if isinstance(reply, Fault):
                return await _fail(writer, reply)
            if body.get("stream"):
                await _stream(writer, body, reply)
            else:
                await _send(writer, 200, completion(body, reply))
            return True
        finally:
            self.in_flight -= 1

    def reply(self, body: Body) -> Reply | Fault:
        """Return what is answered to a request."""
        said = self.answers(body) if callable(self.answers) else self.answers.get(key_of(body["messages"]))
        if said is None:
            return Fault(404, {"error": {"message": "no such question", "code": "no_such_question"}})
        return Reply(said) if isinstance(said, str) else said

    def _other(self, method: str, path: str, headers: dict[str, str], content: bytes) -> tuple[int, Any]:
        *_, kind, name = path.rstrip("/").split("/")
        if method == "POST" and name == "files":
            file = f"file-{len(self.files)}"
            self.files[file] = _upload(headers["content-type"], content)
            return 200, {"id": file, "object": "file", "bytes": len(content), "filename": "x.jsonl", "purpose": "batch"}
        if method == "POST" and name == "batches":
            name = f"batch-{len(self.batches)}"
            batch = {"id": name, "object": "batch", "status": "in_progress", "polls": 0, "created_at": 0}
            self.batches[batch["id"]] = {**batch, **json.loads(content)}
            return 200, self.batches[batch["id"]]
        if method == "GET" and name == "batches":
            return 200, {"object": "list", "data": list(self.batches.values()), "has_more": False}
        if kind == "batches":
            return (200, self._polled(name)) if name in self.batches else (404, {"error": {"message": "no batch"}})
        if name == "content" and path.split("/")[-2] in self.files:
            return 200, self.files[path.split("/")[-2]]
        if name == "models":
            return 200, {"object": "list", "data": [{"id": "stub", "object": "model"}]}
        return 404, {"error": {"message": f"no {path}"}}

    def _polled(self, name: str) -> Body:
        batch = self.batches[name]
        batch["polls"] += 1
        if batch["polls"] > self.batch_polls and batch["status"] == "in_progress":
            good, bad = [], []
            for line in self.files[batch["input_file_id"]].decode().splitlines():
                asked = json.loads(line)
                self.counts[key_of(asked["body"]["messages"])] += 1
                said = self.fault(len(good) + len(bad) + 1, asked["body"]) or self.reply(asked["body"])
                status, document = (
                    (said.status, said.body) if isinstance(said, Fault) else (200, completion(asked["body"], said))
                )
                row = {"custom_id": asked["custom_id"], "response": {"status_code": status, "body": document}}
                (bad if isinstance(said, Fault) else good).append(json.dumps({**row, "error": None}) + "\n")
            for field_name, lines in (("output_file_id", good), ("error_file_id", bad)):
                if lines:
                    batch[field_name] = f"file-{len(self.files)}"
                    self.files[batch[field_name]] = "".join(lines).encode()
            batch["status"] = "completed"
        return batch


def completion(body: Body, reply: Reply) -> Body:
    """Return the document of a chat completion."""
    choice: Body = {
        "index": 0,
        "message": {"role": "assistant", "content": reply.text},
        "finish_reason": reply.finish_reason,
        "logprobs": {"content": _logprobs(body, reply)} if body.get("logprobs") else None,
    }
    return {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": 0,
        "model": reply.model,
        "choices": [choice],
        "usage": usage_of(body, reply),
    }


def usage_of(body: Body, reply: Reply) -> Body:
    """Return the tokens of a request and its answer."""
    if reply.usage is not None:
        return reply.usage
    prompt = 0
    for message in body["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        prompt += sum(len(part["text"].split()) if part["type"] == "text" else 85 for part in parts)
    written = len(_tokens(reply))
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def _tokens(reply: Reply) -> tuple[str, ...]:
    if reply.tokens is not None:
        return reply.tokens
    words = reply.text.split(" ")
    return tuple(word + " " * (number < len(words) - 1) for number, word in enumerate(words) if reply.text)


def _logprobs(body: Body, reply: Reply) -> list[Body]:
    tokens = _tokens(reply)
    values = reply.logprobs if reply.logprobs is not None else (math.log(0.9),) * len(tokens)
    told = []
    for token, value in zip(tokens, values, strict=True):
        tops = [{"token": token, "logprob": value}, {"token": "?", "logprob": math.log1p(-math.exp(value) + 1e-12)}]
        told.append({"token": token, "logprob": value, "top_logprobs": tops[: body.get("top_logprobs", 0)]})
    return told


async def _send(
    writer: asyncio.StreamWriter, status: int, said: Any, headers: Mapping[str, str] = MappingProxyType({})
) -> None:
    payload = said if isinstance(said, bytes) else json.dumps(said).encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(payload)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"HTTP/1.1 {status} {'OK' if status < 300 else 'No'}\r\n{head}\r\n".encode() + payload)
    await writer.drain()


async def _fail(writer: asyncio.StreamWriter, fault: Fault) -> bool:
    """Do what a fault says; return whether the connection lives on."""
    await asyncio.sleep(fault.delay_s)
    if fault.hangs:
        await asyncio.Event().wait()
    said = fault.body if fault.body is not None else {"error": {"message": "it failed"}}
    if fault.cut is None:
        await _send(writer, fault.status, said, fault.headers)
        return True
    payload = said if isinstance(said, bytes) else json.dumps(said).encode()
    writer.write(
        f"HTTP/1.1 {fault.status} OK\r\nContent-Length: {len(payload)}\r\n\r\n".encode() + payload[: fault.cut]
    )
    await writer.drain()
    return False


async def _stream(writer: asyncio.StreamWriter, body: Body, reply: Reply) -> None:
    """Send an answer token by token, as server-sent events."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    told = _logprobs(body, reply) if body.get("logprobs") else [None] * len(_tokens(reply))
    deltas: list[tuple[Body, Any, str | None]] = [({"role": "assistant", "content": ""}, None, None)]
    deltas += [
        ({"content": token}, one and {"content": [one]}, None) for token, one in zip(_tokens(reply), told, strict=True)
    ]
    deltas.append(({}, None, reply.finish_reason))
    for delta, logprobs, ended in deltas:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": ended}
        await _event(writer, {**_chunk(reply), "choices": [choice]})
    if (body.get("stream_options") or {}).get("include_usage"):
        await _event(writer, {**_chunk(reply), "choices": [], "usage": usage_of(body, reply)})
    await _event(writer, "[DONE]")
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def _chunk(reply: Reply) -> Body:
    return {"id": "chatcmpl-stub", "object": "chat.completion.chunk", "created": 0, "model": reply.model}


async def _event(writer: asyncio.StreamWriter, said: Any) -> None:
    data = f"data: {said if isinstance(said, str) else json.dumps(said)}\n\n".encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()


def _upload(content_type: str, content: bytes) -> bytes:
    """Return the file in a multipart upload."""
    message = email.parser.BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + content)
    files = [part for part in message.get_payload() if part.get_filename()]  # type: ignore[union-attr]
    payload: bytes = files[0].get_payload(decode=True)  # type: ignore[union-attr,assignment]
    return payload
