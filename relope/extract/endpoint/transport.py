"""The connection below the client: answers of a bounded size that come within a bounded time."""

import threading
import time
from collections.abc import Iterator

import httpx2
import openai

ANSWER_BYTES = 4 << 20
"""Of what a server says at most; an answer of some thousand tokens with their log-probs stays below."""


class TooLong(httpx2.TransportError):
    """A server says more than any answer would take."""


class _Bounded(httpx2.SyncByteStream):
    """A body that ends with an error where it grows too long or comes too slowly."""

    def __init__(self, stream: httpx2.SyncByteStream, timeout_s: float, most: int) -> None:
        self._stream, self._end = stream, time.monotonic() + timeout_s
        self._left = self._most = most

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._left -= len(piece)
            if self._left < 0:
                raise TooLong(f"it sent more than {self._most >> 20} MiB")
            if time.monotonic() > self._end:
                raise httpx2.ReadTimeout("the answer comes too slowly")
            yield piece

    def close(self) -> None:
        self._stream.close()


class _Transport(httpx2.BaseTransport):
    """A connection of its own for each thread that asks.

    Threads that share one pool wait for its lock: 32 of them most of the time, at hundreds of requests a second.
    """

    def __init__(self, timeout_s: float, most: int) -> None:
        self._timeout_s, self._most = timeout_s, most
        self._here, self._lock = threading.local(), threading.Lock()
        self._verify = httpx2.create_ssl_context()  # once: it reads every certificate of the system
        self._all: list[httpx2.HTTPTransport] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = self._own().handle_request(request)
        assert isinstance(response.stream, httpx2.SyncByteStream)  # of a synchronous transport
        response.stream = _Bounded(response.stream, self._timeout_s, self._most)
        return response

    def _own(self) -> httpx2.HTTPTransport:
        if not hasattr(self._here, "transport"):
            self._here.transport = httpx2.HTTPTransport(verify=self._verify)
            with self._lock:
                self._all.append(self._here.transport)
        transport: httpx2.HTTPTransport = self._here.transport
        return transport

    def close(self) -> None:
        with self._lock:
            for transport in self._all:
                transport.close()


def bounded_http(timeout_s: float, most: int = ANSWER_BYTES) -> httpx2.Client:
    """Return the connection that the client of an endpoint goes through; it follows no redirect.

    A server that is silent for so many seconds, or whose answer takes as long to come, has not answered; nor has one
    that says more than so many bytes.
    """
    return openai.DefaultHttpxClient(transport=_Transport(timeout_s, most), timeout=timeout_s, follow_redirects=False)
