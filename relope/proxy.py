"""The proxy that the environment names for an address that the operator has configured.

``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` as other programs read them. Only addresses that whoever
runs this has named go through one: an image that a request names is fetched from an address that was looked at first,
which a proxy would look up anew.
"""

import ipaddress
import urllib.request
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

from relope.errors import InvalidInputError, NotFoundError
from relope.redact import hide

_KINDS = ("http", "https", "socks5", "socks5h")


def proxy_of(url: str) -> str | None:
    """Return the URL of the proxy by which an address is reached; None where it is reached straight.

    What runs on this machine never goes through one.

    Args:
        url: an address of HTTP or HTTPS.

    Raises:
        InvalidInputError: what the environment names is no proxy.
        NotFoundError: a package that it needs is not installed.
    """
    parts = urlsplit(url)
    host, named = parts.hostname or "", urllib.request.getproxies_environment()
    proxy = named.get(parts.scheme) or named.get("all")
    if not proxy or _is_here(host) or _is_exempt(host, parts.netloc.rpartition("@")[2].lower(), named.get("no", "")):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        told = urlsplit(proxy)
        hide(unquote(told.password or ""))
        is_one = told.scheme in _KINDS and bool(told.hostname) and told.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        shown = proxy.rpartition("@")[2]  # what cannot be taken apart may hold a password all the same
        raise InvalidInputError(
            f"the environment's proxy {shown!r} for {parts.scheme} addresses is none",
            hint=f"mend or unset {parts.scheme.upper()}_PROXY, or name {host} in NO_PROXY",
        )
    if told.scheme.startswith("socks") and find_spec("socksio") is None:
        raise NotFoundError(
            "the environment's proxy speaks SOCKS, for which the package socksio is not installed",
            hint="pip install socksio",
        )
    return proxy


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _is_exempt(host: str, netloc: str, no_proxy: str) -> bool:
    """Return whether ``NO_PROXY`` names a host, with or without its port: itself, a domain above it, or its network."""
    entries = [entry.strip().lower() for entry in no_proxy.split(",") if entry.strip()]
    names = [entry.removeprefix("*").removeprefix(".") for entry in entries]
    if "*" in entries or any(f".{spelt}".endswith(f".{name}") for spelt in (host, netloc) for name in names):
        return True
    address = _address(host)
    return address is not None and any(address in network for network in map(_network, entries) if network)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None
