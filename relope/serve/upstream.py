"""The large model, behind any OpenAI-compatible server: asked again before the first byte, then passed through."""

import asyncio
import contextlib
import json
import math
import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx

from relope.evaluate.numbers.costs import ModelCost
from relope.proxy import proxy_of
from relope.retry_after import asked_wait_s
from relope.serve.breaker import Breaker, Purse
from relope.serve.estimate import estimated_usd
from relope.serve.large import LargeAnswer, LargeModel, Unavailable, dollars_of
from relope.serve.problems import Problem
from relope.serve.sse import Cutter, data_of, value_of
from relope.types import Usage

Events = AsyncIterator[bytes]
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request is sent again."""
_PASSED_ON = frozenset({400, 404, 413, 415, 422})
"""Statuses that say something of the client's request."""
_OF_A_KEY = frozenset({401, 402, 403})
"""Statuses that say something of the key: where that is the client's own, they are the client's to read."""
_MAY_COST = frozenset({408, 502, 504})
"""Failures behind which a model may have answered: what a gateway says that has not waited for it."""
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.WriteError,
           httpx.WriteTimeout)  # fmt: skip
"""Of these no server has had the whole request."""
_MOST_BYTES = 32 << 20
_LONGEST_WAIT_S = 5.0
"""A longer Retry-After is the client's to wait for."""
_LONGEST_TOLD_S = 86_400.0
"""Of a server that wants longer the client is told nothing."""
_LOST = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""Connections that never were or broke off: no byte of an answer has come, so the request is sent again."""


class Large:
    """Calls to the large model."""

    def __init__(self, model: LargeModel, failed: Callable[[str], None] = lambda kind: None) -> None:
        self.model, self._failed = model, failed
        self.breaker, self.purse = Breaker(), Purse(model.max_usd_per_hour)
        self._turn = asyncio.Semaphore(model.concurrent)
        limits = httpx.Limits(max_connections=model.concurrent, max_keepalive_connections=model.concurrent)
        timeout = httpx.Timeout(model.timeout_s, connect=min(10.0, model.timeout_s))
        proxy = proxy_of(model.base_url)  # the operator's address, so that the operator's proxy may stand before it
        self._client = httpx.AsyncClient(
            limits=limits, timeout=timeout, follow_redirects=False, trust_env=False, proxy=proxy
        )
        self._url = httpx.URL(model.base_url.rstrip("/") + "/chat/completions", params=model.query or None)

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    def unavailable(self) -> Unavailable | None:
        """Return why no call would go out now."""
        if self.purse.is_empty:
            message = "the cap on dollars per hour for the large model is reached"
            wait = {"retry-after": str(self.purse.wait_s)}
            return Unavailable("large-budget", Problem(429, message, "large_budget", headers=wait))
        if self.breaker.is_open:
            return Unavailable("large-down", Problem(503, "the large model does not answer", "large_down"))
        return None

    async def ask(self, body: Mapping[str, Any], authorization: str = "") -> LargeAnswer:
        """Send a request; return when its answer, or the first event of it, is there.

        Args:
            body: as the client sent it; the model's name is ours.
            authorization: the client's own, where the operator passes it on.

        Raises:
            Unavailable: it does not answer, or with what is no answer.
        """
        if why := self.unavailable():
            raise why
        sent = self._request(body, authorization)
        try:
            async with asyncio.timeout(self.model.queue_s):
                await self._turn.acquire()
        except TimeoutError as error:
            busy = Problem(503, "too many calls to the large model are under way", "large_busy",
                           headers={"retry-after": "1"})  # fmt: skip
            raise Unavailable("large-busy", busy) from error
        if why := self.unavailable():  # those before it in the queue may have spent the rest, or failed
            self._turn.release()
            raise why
        estimate = estimated_usd(self.model.price, body, len(sent.content))
        call = _Call(self, estimate, forwarded=bool(authorization))
        try:
            return await self._attempts(call, sent, bool(body.get("stream")), _drops_usage(body, self.model.price))
        except BaseException:
            await call.close()
            raise

    def _request(self, body: Mapping[str, Any], authorization: str) -> httpx.Request:
        changed = {**body, "model": self.model.name}
        if body.get("stream") and self.model.price is not None:
            changed["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        headers = {"content-type": "application/json"}
        if authorization:
            headers["authorization"] = authorization
        elif self.model.key and self.model.takes_bearer:
            headers["authorization"] = f"Bearer {self.model.key}"
        elif self.model.key:
            headers["api-key"] = self.model.key
        return self._client.build_request("POST", self._url, content=json.dumps(changed).encode(), headers=headers)

    async def _attempts(self, call: "_Call", sent: httpx.Request, stream: bool, drop: bool) -> LargeAnswer:
        """Send it until there is an answer; a retry never follows a byte that the client has seen."""
        for attempt in range(self.model.retries + 1):
            last = attempt == self.model.retries
            call.sent()
            try:
                answer = await self._client.send(sent, stream=True)
            except httpx.HTTPError as error:
                call.pay(free=isinstance(error, _UNSENT))
                kind = "timeout" if isinstance(error, httpx.TimeoutException) else "connection"
                self._failed(kind)
                if last or not isinstance(error, _LOST):
                    self.breaker.failed()
                    raise _down("large-down", "does not answer") from error
                await asyncio.sleep(_pause(attempt))
                continue
            call.answer = answer
            if answer.status_code != 200:
                call.pay(free=answer.status_code not in _MAY_COST)
            if answer.status_code in _AGAIN:
                self._failed(str(answer.status_code))
                if not last and (wait := _wait(answer, attempt)) <= _LONGEST_WAIT_S:
                    await answer.aclose()
                    await asyncio.sleep(wait)
                    continue
            return await self._read(call, stream, drop)
        raise AssertionError("the last attempt returns or raises")

    async def _read(self, call: "_Call", stream: bool, drop: bool) -> LargeAnswer:
        """Read an answer, or a stream up to its first event."""
        answer, status = call.answer, call.answer.status_code if call.answer else 0
        assert answer is not None
        if status == 200 and stream:
            return await self._stream(call, answer, drop)
        body = await self._whole(answer)
        value = _object(body)
        if status == 429:
            if not call.forwarded:  # else it may be this client's key alone that is used up
                self.breaker.failed()
            message = "the large model takes no more requests now"
            raise Unavailable("large-busy", Problem(429, message, "large_busy", headers=_retry_after(answer)))
        if status in _PASSED_ON or (call.forwarded and status in _OF_A_KEY):
            if status in _PASSED_ON:
                self.breaker.succeeded()
            await call.close()
            return LargeAnswer(status, _error_body(value, status))
        if status != 200 or value is None or not isinstance(value.get("choices"), list):
            self.breaker.failed()
            self._failed("answer")
            what = f"answered with status {status}" if status != 200 else "gave no answer"
            raise _down("large-error", what, _retry_after(answer))
        self.breaker.succeeded()
        call.usage = Usage.told(value.get("usage"))
        await call.close()
        return LargeAnswer(200, body, usage=lambda: call.usage)

    async def _whole(self, answer: httpx.Response) -> bytes:
        taken = bytearray()
        try:
            async for block in answer.aiter_bytes():
                taken += block
                if len(taken) > _MOST_BYTES:
                    raise httpx.DecodingError("too long")
        except httpx.HTTPError as error:
            self.breaker.failed()
            self._failed("cut")
            raise _down("large-error", "broke off its answer") from error
        return bytes(taken)

    async def _stream(self, call: "_Call", answer: httpx.Response, drop: bool) -> LargeAnswer:
        """Return a stream whose first event with data has come, and is one of an answer.

        Comments before it keep the connection alive, and are left out.

        Source: https://openrouter.ai/docs/api_reference/streaming (``: OPENROUTER PROCESSING``).
        """
        events = _events(answer)
        try:
            first = await anext(events)
            while not data_of(first):
                first = await anext(events)
            value = value_of(first)
            if value is None or "choices" not in value:
                raise ValueError("no event of an answer")
        except (httpx.HTTPError, ValueError, StopAsyncIteration) as error:
            self.breaker.failed()
            self._failed("answer")
            raise _down("large-error", "gave no answer") from error
        self.breaker.succeeded()
        return LargeAnswer(
            200, events=self._passed(call, first, events, drop), usage=lambda: call.usage, close=call.close
        )

    async def _passed(self, call: "_Call", first: bytes, events: Events, drop: bool) -> Events:
        """Yield every event as it came; what was asked for on our account alone is taken out.

        Raises:
            Unavailable: it broke off before its end.
        """
        event: bytes | None = first
        try:
            while event is not None:
                value = value_of(event) if b'"usage"' in event else None
                if value is not None and isinstance(value.get("usage"), dict):
                    call.usage = Usage.told(value["usage"])
                if not (drop and value is not None and value.get("usage") and not value.get("choices")):
                    yield event
                if data_of(event) == b"[DONE]":
                    return
                event = await anext(events, None)
        except (httpx.HTTPError, ValueError) as error:
            self._failed("cut")
            raise _down("large-error", "broke off its answer") from error
        self._failed("cut")
        raise _down("large-error", "broke off its answer")


class _Call:
    """A turn that is taken, given back once, and paid for.

    Args:
        large: the model.
        estimate: dollars of an attempt that the server does not count.
        forwarded: whether the key is the client's.
    """

    def __init__(self, large: Large, estimate: float, forwarded: bool) -> None:
        self.large, self.estimate, self.forwarded, self.usage = large, estimate, forwarded, Usage()
        self.answer: httpx.Response | None = None
        self._open, self._owes = True, False
        self._number = large.breaker.begin()
        large.purse.begin(estimate)

    def sent(self) -> None:
        """Say that the request goes out: from here on it costs, even where nobody waits for the answer."""
        self._owes = True

    def pay(self, free: bool = False) -> None:
        """Count an attempt that has ended, once: by the server's tokens, else as estimated.

        Args:
            free: it has cost nothing.
        """
        if self._owes and not free:
            told = self.usage
            tokens = told.prompt_tokens, told.completion_tokens, told.cached_tokens or 0
            dollars = dollars_of(self.large.model.price, *tokens)
            self.large.purse.spend(self.estimate if dollars is None else dollars)
        self._owes = False

    async def close(self) -> None:
        """Give turn and connection back, and pay."""
        if not self._open:
            return
        self._open = False
        large = self.large
        large._turn.release()
        large.breaker.ended(self._number)
        large.purse.under_way -= 1
        self.pay()
        if self.answer is not None:
            with contextlib.suppress(httpx.HTTPError, RuntimeError):
                await self.answer.aclose()


async def _events(answer: httpx.Response) -> Events:
    cut = Cutter()
    async for block in answer.aiter_bytes():
        for event in cut(block):
            yield event


def _drops_usage(body: Mapping[str, Any], price: ModelCost | None) -> bool:
    return price is not None and not (body.get("stream_options") or {}).get("include_usage")


def _down(reason: str, what: str, headers: Mapping[str, str] | None = None) -> Unavailable:
    status, code = 503 if reason == "large-down" else 502, reason.replace("-", "_")
    return Unavailable(reason, Problem(status, f"the large model {what}", code, headers=headers or {}))


def _pause(attempt: int) -> float:
    return 0.1 * float(2**attempt) * (0.5 + random.random())


def _wait(answer: httpx.Response, attempt: int) -> float:
    asked = asked_wait_s(answer.headers.get("retry-after", ""))
    return _pause(attempt) if asked is None else asked


def _retry_after(answer: httpx.Response) -> dict[str, str]:
    """Return the header for the client of a server that wants a pause: in whole seconds, whatever it said."""
    asked = asked_wait_s(answer.headers.get("retry-after", ""))
    return {} if asked is None or asked > _LONGEST_TOLD_S else {"retry-after": str(math.ceil(asked))}


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _error_body(value: Mapping[str, Any] | None, status: int) -> bytes:
    """Return the server's error where it has OpenAI's shape, else one of ours."""
    if value is not None and isinstance(value.get("error"), dict) and isinstance(value["error"].get("message"), str):
        return json.dumps({"error": value["error"]}).encode()
    return json.dumps(Problem(status, f"the large model refused the request with status {status}").body).encode()
