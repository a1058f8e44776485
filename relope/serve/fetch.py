"""Images of ``https`` hosts that the operator allows: resolved once, the address pinned, nothing followed.

A name may resolve to an address of the operator's own network, and to another one when it is asked again. So a name
is resolved here, every address it has must be a global one, and the connection goes to the first of them; the
certificate is checked against the name.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection
from urllib.parse import SplitResult, urlsplit

import httpx

from relope.serve.limits import Limits
from relope.serve.problems import invalid, too_large

TIMEOUT_S = 10.0
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name."""
    addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in addresses]


def allowed(url: str, hosts: Collection[str], param: str) -> SplitResult:
    """Return an image's address taken apart.

    Raises:
        Problem: it is not ``https``, names a user or another port, or its host is not allowed.
    """
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError as error:
        raise invalid("an image's address is none", param, "invalid_image") from error
    if split.scheme.lower() != "https" or not split.hostname or split.username is not None or port not in (None, 443):
        raise invalid("an image must be a data URI, or https:// of an allowed host", param, "invalid_image")
    if split.hostname.lower() not in hosts:
        raise invalid("images are not fetched from that host; send a data URI", param, "image_host")
    return split


async def pinned(split: SplitResult, param: str, resolver: Resolve = resolve) -> str:
    """Return the address that the connection goes to.

    Raises:
        Problem: the name has none, or one that is not global.
    """
    host = split.hostname or ""
    try:
        addresses = await resolver(host, 443)
    except OSError as error:
        raise invalid("the host of an image is not known", param, "image_host") from error
    if not addresses or not all(_is_global(address) for address in addresses):
        raise invalid("the host of an image has an address that is not global", param, "image_host")
    return addresses[0]


def _is_global(address: str) -> bool:
    """Return whether an address is one of the open internet; one inside another (``::ffff:…``) is looked at too."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return ip.is_global and not ip.is_multicast and all(inner.is_global for inner in _inner(ip))


def _inner(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """Return the addresses that one of the newer kind leads to."""
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    translated = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
    return [inner for inner in (ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ()), translated) if inner is not None]


async def fetch(client: httpx.AsyncClient, split: SplitResult, address: str, limits: Limits, param: str) -> bytes:
    """Return the encoded image at a pinned address.

    Raises:
        Problem: another answer than 200 (redirects are not followed), too many bytes, or none in time.
    """
    host = split.hostname or ""
    target = f"[{address}]" if ":" in address else address
    try:
        url = httpx.URL(scheme="https", host=target, raw_path=_path(split))
        async with asyncio.timeout(TIMEOUT_S):
            extensions = {"sni_hostname": host}
            headers = {"host": host, "accept": "image/*", "accept-encoding": "identity"}
            async with client.stream("GET", url, headers=headers, extensions=extensions) as answer:
                if answer.status_code != 200:
                    raise invalid(f"the host of an image answered {answer.status_code}", param, "image_host")
                return await _body(answer, limits, param)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
        raise invalid("an image could not be fetched", param, "image_host") from error


def _path(split: SplitResult) -> bytes:
    return f"{split.path or '/'}{'?' if split.query else ''}{split.query}".encode("ascii")


async def _body(answer: httpx.Response, limits: Limits, param: str) -> bytes:
    taken = bytearray()
    async for block in answer.aiter_raw():  # raw: nothing is unpacked, so nothing can blow up
        taken += block
        if len(taken) > limits.image_bytes:
            raise too_large(f"an image has more than the {limits.image_bytes:,} bytes that are allowed", param)
    return bytes(taken)


def image_client() -> httpx.AsyncClient:
    """Return a client that follows nothing and takes no proxy from the environment."""
    return httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=TIMEOUT_S)
