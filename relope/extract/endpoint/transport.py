"""The connection below the client: answers of a bounded size that come within a bounded time."""

import threading
import time
from collections.abc import Callable, Iterator

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

    def __init__(self, timeout_s: float, most: int, proxy: str | None) -> None:
        self._timeout_s, self._most, self._proxy = timeout_s, most, proxy
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
            self._here.transport = httpx2.HTTPTransport(verify=self._verify, proxy=self._proxy)
            with self._lock:
                self._all.append(self._here.transport)
        transport: httpx2.HTTPTransport = self._here.transport
        return transport

    def close(self) -> None:
        with self._lock:
            for transport in self._all:
                transport.close()


Post = Callable[[bytes], httpx2.Response]
"""Sends a body to an address, and returns what came back, read whole."""


class BoundedHttp(openai.DefaultHttpxClient):
    """The connection of a client; `bounded_http` makes one."""

    def __init__(self, transport: _Transport, timeout_s: float) -> None:
        super().__init__(transport=transport, timeout=timeout_s, follow_redirects=False)
        self._bounded = transport

    def post_to(self, url: str, content_type: str) -> Post:
        """Return what sends bodies to one address, with the headers and the query that the client has now.

        They are put together once. The client would do that for each request, look for cookies, hooks and redirects,
        and take a seventh of all that an answer costs here.
        """
        made = self.build_request("POST", url, headers={"Content-Type": content_type})
        headers = [(name, value) for name, value in made.headers.raw if name.lower() != b"content-length"]

        def post(content: bytes) -> httpx2.Response:
            sized = [*headers, (b"Content-Length", str(len(content)).encode())]
            stream = httpx2.ByteStream(content)
            request = httpx2.Request("POST", made.url, headers=sized, stream=stream, extensions=made.extensions)
            response = self._bounded.handle_request(request)
            response.request = request
            try:
                response.read()
            finally:
                response.close()
            return response

        return post


def bounded_http(timeout_s: float, most: int = ANSWER_BYTES, proxy: str | None = None) -> BoundedHttp:
    """Return the connection that the client of an endpoint goes through; it follows no redirect.

    A server that is silent for so many seconds, or whose answer takes as long to come, has not answered; nor has one
    that says more than so many bytes.

    Args:
        timeout_s: seconds.
        most: bytes.
        proxy: URL of the one that it goes through; None = straight, whatever the environment says.
    """
    return BoundedHttp(_Transport(timeout_s, most, proxy), timeout_s)
