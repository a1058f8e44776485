"""From a request of HTTP to what it says, and back: bodies in time and within bounds, problems, streams."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from relope.serve.chat import read_body
from relope.serve.exchange import Reply
from relope.serve.limits import Limits
from relope.serve.problems import Problem, too_large

logger = logging.getLogger("relope.serve")
T = TypeVar("T")
_THREAD_FROM = 256 << 10
"""Bytes of a body from which it is parsed beside the loop."""


class Gone(Exception):
    """The client has gone away."""


class _Stalled(Exception):
    """The client reads nothing more."""


def problem_response(problem: Problem, headers: Mapping[str, str]) -> Response:
    """Return what a client is told of a problem."""
    return JSONResponse(problem.body, problem.status, {**headers, **problem.headers})


async def body_of(http: HttpRequest, limits: Limits) -> dict[str, Any]:
    """Return the JSON object of a request.

    Another type than JSON is refused, also because a page of the web may send it to this machine unasked.

    Raises:
        Problem: no JSON, too many bytes, or not there in time.
        Gone: the client went away.
    """
    kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "the content-type must be application/json", "content_type")
    declared = http.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.body_bytes:
        raise _too_long(limits)
    taken = bytearray()
    try:
        async with asyncio.timeout(limits.body_s):
            async for block in http.stream():
                taken += block
                if len(taken) > limits.body_bytes:
                    raise _too_long(limits)
    except TimeoutError as error:
        raise Problem(408, f"the body did not come within {limits.body_s:g} s", "timeout",
                      headers={"connection": "close"}) from error  # fmt: skip
    except ClientDisconnect as error:
        raise Gone from error
    raw = bytes(taken)
    return await asyncio.to_thread(read_body, raw) if len(raw) > _THREAD_FROM else read_body(raw)


def _too_long(limits: Limits) -> Problem:
    problem = too_large(f"the body has more than the {limits.body_bytes:,} bytes that are allowed")
    return Problem(problem.status, problem.message, problem.code, headers={"connection": "close"})


async def unless_gone(http: HttpRequest, work: Coroutine[Any, Any, T]) -> T:
    """Return what comes of some work; it is cancelled when the client goes away meanwhile.

    Raises:
        Gone: the client went away.
    """
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(http.receive))
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise Gone
    finally:
        for task in (doing, leaving):
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Problem):
                    await task


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class ReplyResponse(Response):
    """Sends a reply, and tells it how that ended.

    Args:
        reply: the answer.
        headers: beside its own.
        send_s: seconds that a client which reads nothing may keep an event waiting: it holds the model's turn.
    """

    def __init__(self, reply: Reply, headers: Mapping[str, str], send_s: float) -> None:
        stream = reply.events is not None
        kind = "text/event-stream" if stream else "application/json"
        further = {"cache-control": "no-cache", "x-accel-buffering": "no"} if stream else {}
        super().__init__(reply.body, reply.status, {**headers, **reply.headers, **further}, kind)
        if stream:
            del self.headers["content-length"]
        self._reply, self._send_s = reply, send_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        ended = "cancelled"
        try:
            if self._reply.events is None:
                await super().__call__(scope, receive, send)
                ended = "done"
            else:
                ended = await self._stream(receive, send)
        finally:
            await self._reply.close(ended)

    async def _stream(self, receive: Receive, send: Send) -> str:
        """Send events until they end, the client goes away, or it has read nothing for too long."""
        sending = asyncio.ensure_future(self._pump(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
                return "done"
            return "cancelled"
        except _Stalled:
            return "stalled"
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _pump(self, send: Send) -> None:
        async def give(message: Message) -> None:
            try:
                async with asyncio.timeout(self._send_s):
                    await send(message)
            except TimeoutError as error:
                raise _Stalled from error

        await give({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        assert self._reply.events is not None
        async for event in self._reply.events:
            await give({"type": "http.response.body", "body": event, "more_body": True})
        await give({"type": "http.response.body", "body": b"", "more_body": False})


def json_response(value: Any, headers: Mapping[str, str], status: int = 200) -> Response:
    """Return a JSON value, on a line of its own: a shell shows its prompt behind it."""
    return Response(f"{json.dumps(value, allow_nan=False)}\n", status, dict(headers), "application/json")
