"""The environment's proxies: before what the operator has configured, never before this machine."""

import asyncio
import threading

import pytest
from openai_stub import Stub

from relope.errors import InvalidInputError, NotFoundError, OutputError
from relope.extract.endpoint import client
from relope.extract.endpoint.address import open_endpoint
from relope.extract.endpoint.client import Question, ask
from relope.proxy import proxy_of
from relope.serve.fetch import image_client
from relope.serve.large import LargeModel
from relope.serve.upstream import Large

ASKED = Question([{"role": "user", "content": "what?"}], 8)


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_PROXY".upper(), raising=False)


class Proxy:
    """A proxy on the loopback, which answers every request itself and notes its first line.

    Attributes:
        asked: first line of each request.
        heads: all of its lines.
    """

    def __init__(self, server):
        """Pass whatever is asked on to a server, where no tunnel is wanted."""
        self.asked, self.heads, self._server = [], [], server
        self._loop, self._ready = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._main(),), daemon=True)

    def __enter__(self):
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *error):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _main(self):
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _connected(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first = head.partition("\r\n")[0]
        self.asked.append(first)
        self.heads.append(head)
        if first.startswith("CONNECT"):
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        else:
            url = first.split(" ")[1]
            content = await reader.readexactly(int(head.lower().partition("content-length: ")[2].partition("\r")[0]))
            theirs, ours = await asyncio.open_connection("127.0.0.1", self._server)
            ours.write(head.replace(url, "/" + url.split("/", 3)[3], 1).encode() + content)
            answer = await theirs.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            writer.write(answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + await theirs.readexactly(length))
            ours.close()
        await writer.drain()
        writer.close()


@pytest.fixture
def proxied(monkeypatch):
    """A server of answers, and a proxy before it that the environment names, with a password."""
    with Stub(lambda body: "yes") as stub, Proxy(int(stub.url.split(":")[2].partition("/")[0])) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://me:secret-of-proxy@127.0.0.1:{proxy.port}")
        yield stub, proxy


def test_an_endpoint_is_reached_through_the_proxy_of_the_environment(proxied):
    stub, proxy = proxied
    endpoint = open_endpoint("http://models.example/v1", "m", None)
    assert ask(endpoint, ASKED).text == "yes" and len(stub.requests) == 1
    assert proxy.asked == ["POST http://models.example/v1/chat/completions HTTP/1.1"]
    assert "proxy-authorization: basic" in proxy.heads[0].lower() and "secret" not in repr(endpoint)
    endpoint.close()


def test_a_proxy_that_refuses_is_named_without_its_password(proxied, monkeypatch):
    monkeypatch.setattr(client, "ATTEMPTS", 1)
    endpoint = open_endpoint("https://models.example/v1", "m", None)
    with pytest.raises(OutputError, match=r"cannot be reached through the proxy http://…@127.0.0.1:\d+: 403") as caught:
        ask(endpoint, ASKED)
    assert proxied[1].asked == ["CONNECT models.example:443 HTTP/1.1"] and "secret-of-proxy" not in str(caught.value)
    endpoint.close()


def test_what_runs_here_is_asked_straight(proxied):
    stub, proxy = proxied
    endpoint = open_endpoint(stub.url, "m", None)
    assert ask(endpoint, ASKED).text == "yes" and proxy.asked == []
    endpoint.close()


def test_the_large_model_of_serve_is_reached_through_it_and_images_of_a_request_are_not(proxied):
    async def asked():
        large = Large(LargeModel(base_url="http://models.example/v1", name="m"))
        answer = await large.ask({"messages": [{"role": "user", "content": "what?"}]})
        await answer.close()
        await large.close()
        async with image_client() as fetching:
            assert not fetching._mounts
        return answer

    asyncio.run(asked())
    assert proxied[1].asked == ["POST http://models.example/v1/chat/completions HTTP/1.1"]


PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "no_proxy", "expected"),
    [
        ("https://api.example.com/v1", "", PROXY),
        ("http://api.example.com/v1", "", None),
        ("https://localhost:8000/v1", "", None),
        ("https://vllm.localhost/v1", "", None),
        ("https://127.0.0.9/v1", "", None),
        ("https://[::1]:8000/v1", "", None),
        ("https://0.0.0.0:8000/v1", "", None),
        ("https://api.example.com/v1", "example.com", None),
        ("https://api.example.com/v1", "other.org, .EXAMPLE.com", None),
        ("https://api.example.com/v1", "*.example.com", None),
        ("https://api.example.com/v1", "*", None),
        ("https://api.example.com/v1", "other.org,*", None),
        ("https://badexample.com/v1", "example.com", PROXY),
        ("https://api.example.com:8443/v1", "api.example.com:8443", None),
        ("https://api.example.com:8443/v1", "api.example.com:443", PROXY),
        ("https://10.1.2.3/v1", "10.0.0.0/8", None),
        ("https://11.1.2.3/v1", "10.0.0.0/8,example", PROXY),
        ("https://[fd00::7]/v1", "fd00::/8", None),
    ],
)
def test_which_addresses_go_through_it(url, no_proxy, expected, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_of(url) == expected


def test_other_names_and_forms(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "proxy.example:3128")
    assert proxy_of("http://api.example.com") == PROXY, "without its scheme too"
    monkeypatch.setenv("https_proxy", "http://other.example:1")
    assert proxy_of("https://api.example.com") == "http://other.example:1"


@pytest.mark.parametrize("proxy", ["ftp://proxy:1", "http://", "http://proxy:0", "http://proxy:x", "http://[proxy",
                                   "http://me:secret-word@proxy:x", "http://me:secret-word@[proxy"])  # fmt: skip
def test_what_is_no_proxy_is_a_line_or_two(proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(InvalidInputError, match="for https addresses is none") as caught:
        open_endpoint("https://api.example.com/v1", "m", None)
    assert caught.value.hint == "mend or unset HTTPS_PROXY, or name api.example.com in NO_PROXY"
    assert "secret-word" not in str(caught.value)


def test_socks_needs_its_package(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5h://proxy:1080")
    monkeypatch.setattr("relope.proxy.find_spec", lambda name: None)
    with pytest.raises(NotFoundError, match="socksio"):
        proxy_of("https://api.example.com/v1")
    monkeypatch.setattr("relope.proxy.find_spec", lambda name: name)
    assert proxy_of("https://api.example.com/v1") == "socks5h://proxy:1080"
