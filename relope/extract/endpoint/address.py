"""Where a model is asked that runs elsewhere, and with which key; neither key nor password is ever shown."""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from relope.errors import InvalidInputError, NotFoundError
from relope.proxy import proxy_of
from relope.redact import hide

if TYPE_CHECKING:
    import openai

    from relope.extract.endpoint.transport import BoundedHttp, Post

TIMEOUT_S = 120.0
"""Seconds that a server may take for one answer."""

FILE_TIMEOUT_S, FILE_BYTES = 1800.0, 4 << 30
"""For a file of a batch."""

AZURE_VERSION = "2024-10-21"
"""Of Azure's interface, where the address names none: the last one that is no preview."""

_COMPLETIONS = "/chat/completions"
_EXAMPLE = "e.g. --endpoint http://localhost:8000/v1"
_AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com")
_DEPLOYMENTS = "/openai/deployments"


@dataclass(frozen=True)
class Endpoint:
    """Where a model is asked.

    Attributes:
        url: of the chat completions, without user and password.
        model: its name there.
        client: of the ``openai`` package; it holds the key.
        headers: of each request of the client, beside its own.
        post: sends the body of a question past the client; it knows address and key too.
        timeout_s: that one answer may take.
        proxy: of the environment, by which the server is reached; None = straight.
    """

    url: str
    model: str
    client: "openai.OpenAI" = field(repr=False, compare=False)
    headers: Mapping[str, Any] = field(repr=False, compare=False)
    post: "Post" = field(repr=False, compare=False)
    timeout_s: float
    proxy: str | None = field(default=None, repr=False)

    def close(self) -> None:
        """Let go of the connections."""
        self.client.close()


@dataclass(frozen=True)
class _Address:
    """A base URL and what is sent with each request to it."""

    base: str
    query: dict[str, str]
    user: str = field(repr=False)
    is_azure: bool


def open_endpoint(
    url: str, model: str, key_env: str | None, timeout_s: float = TIMEOUT_S, *, batches: bool = False
) -> Endpoint:
    """Return an endpoint by its base URL, e.g. ``http://localhost:8000/v1``; nobody is asked anything yet.

    Azure's form is ``https://NAME.openai.azure.com``, with or without ``/openai/deployments/DEPLOYMENT`` and
    ``?api-version=…``; its key goes in the header ``api-key``.

    Args:
        url: base URL of an OpenAI-compatible server.
        model: its name there; on Azure, of the deployment.
        key_env: environment variable that holds the key; None sends none.
        timeout_s: seconds that one answer may take.
        batches: whole files come as answers, which are larger and take longer.

    Raises:
        InvalidInputError: it is no web address, the key could not be sent, there are no batches at it, or the
            environment's proxy is none.
        NotFoundError: the environment has no such key, or the ``openai`` package is not installed.
    """
    address = _address(url, model)
    key = key_of(key_env) if key_env else ""
    if batches and _DEPLOYMENTS in address.base:
        raise InvalidInputError(
            "batches have no deployment in their address",
            hint="give --endpoint https://NAME.openai.azure.com/openai/v1",
        )
    openai = _package()
    headers: dict[str, Any] = {"Accept-Encoding": "identity"}
    if key and address.is_azure:
        headers |= {"api-key": key, "Authorization": openai.Omit()}
    elif not key:
        basic = f"Basic {base64.b64encode(address.user.encode()).decode()}"
        headers["Authorization"] = basic if address.user else openai.Omit()
    proxy, timeout_s = proxy_of(address.base), max(timeout_s, FILE_TIMEOUT_S) if batches else timeout_s
    client, http = _client(address, key, timeout_s, batches, proxy)
    sent = {name: value for name, value in headers.items() if not isinstance(value, openai.Omit)}
    bearer = {"Authorization": f"Bearer {key}"} if key and not address.is_azure else {}
    http.headers.update({"User-Agent": client.user_agent, **bearer, **sent})
    http.params = http.params.merge(address.query)
    url = f"{address.base}{_COMPLETIONS}"
    return Endpoint(url, model, client, headers, http.post_to(url, "application/json"), timeout_s, proxy)


@dataclass(frozen=True)
class Completions:
    """Where chat completions are asked for.

    Attributes:
        base: URL above ``/chat/completions``, without its query.
        query: of each request.
        takes_bearer: whether a key goes behind ``Bearer`` in ``Authorization``; else as it is in ``api-key``.
    """

    base: str
    query: Mapping[str, str]
    takes_bearer: bool


def completions_at(url: str, model: str) -> Completions:
    """Return where a model is asked whose base URL has any form that `open_endpoint` takes, without user and password.

    Raises:
        InvalidInputError: it is no web address, or has a user.
    """
    address = _address(url, model)
    if address.user:
        raise InvalidInputError(f"endpoint {url!r} has a user in it", hint="give its key by a variable")
    return Completions(address.base, address.query, not address.is_azure)


def check_url(url: str, model: str) -> None:
    """Refuse a base URL at which nobody could be asked; no package, key or network is needed.

    Raises:
        InvalidInputError: it is no web address.
    """
    _address(url, model)


def _client(
    address: _Address, key: str, timeout_s: float, batches: bool, proxy: str | None
) -> "tuple[openai.OpenAI, BoundedHttp]":
    """Return a client that follows no redirect, so that the key goes to no other server, and repeats nothing itself.

    Beside it stand the connections that it goes through.
    """
    from relope.extract.endpoint.transport import ANSWER_BYTES, bounded_http

    http = bounded_http(timeout_s, FILE_BYTES if batches else ANSWER_BYTES, proxy)
    client: openai.OpenAI = _package().OpenAI(
        api_key=key or "none",
        base_url=address.base,
        timeout=timeout_s,
        max_retries=0,
        default_query=address.query,
        http_client=http,
    )
    return client, http


def _package() -> Any:
    """Return the ``openai`` package.

    Raises:
        NotFoundError: it is not installed.
    """
    try:
        import openai
    except ImportError as error:
        raise NotFoundError(
            "models at an endpoint need the package openai, which is not installed",
            hint="pip install 'relope[endpoint]'",
        ) from error
    return openai


def _address(url: str, model: str) -> _Address:
    """Return the parts of an address; no message will hold its password."""
    try:
        parts = urlsplit(url.strip())
        port, host = parts.port, parts.hostname
        host = host and host.encode("idna").decode()
    except ValueError as error:
        raise InvalidInputError(f"endpoint {url!r} is no web address: {error}", hint=_EXAMPLE) from error
    if parts.scheme not in ("http", "https") or not host or any(ord(letter) < 33 for letter in url.strip()):
        raise InvalidInputError(f"endpoint {url!r} is no web address", hint=_EXAMPLE)
    user, _, address = parts.netloc.rpartition("@")
    if port == 0:
        raise InvalidInputError(f"endpoint {url!r} has the port 0", hint=_EXAMPLE)
    hide(unquote(user.partition(":")[2]))
    path, query = parts.path.rstrip("/").removesuffix(_COMPLETIONS), dict(parse_qsl(parts.query))
    is_azure = host.endswith(_AZURE_HOSTS) or _DEPLOYMENTS in path
    if is_azure and "/openai/v1" not in path:
        path = path if _DEPLOYMENTS in path else f"{path.removesuffix('/openai')}{_DEPLOYMENTS}/{quote(model, safe='')}"
        query.setdefault("api-version", AZURE_VERSION)
    return _Address(urlunsplit((parts.scheme, address, path, "", "")), query, unquote(user), is_azure)


def key_of(variable: str) -> str:
    """Return an API key of the environment, without the line break that often ends one.

    Raises:
        NotFoundError: there is none.
        InvalidInputError: it holds what no header can.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        raise NotFoundError(
            f"the environment has no variable {variable}, or it is empty", hint="set it, or name another variable"
        )
    hide(key)
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInputError(
            f"the key in {variable} holds spaces, line breaks or letters that are not ASCII", hint="set it again"
        )
    return key
