"""Captions from any OpenAI-compatible endpoint, over plain HTTP of the standard library."""

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from relope.errors import InvalidInputError, NotFoundError, OutputError
from relope.types import LazyImage

ATTEMPTS = 4
TIMEOUT_S = 120.0
LONGEST_WAIT_S = 60.0
_AGAIN = (408, 429, 500, 502, 503, 504)
_REFUSED = (400, 413, 415, 422)
_ANSWER_BYTES = 4 << 20
_KEPT = "what was captioned is kept; the same command goes on from there"
"""The hint of everything that ends a run."""


class Refused(OutputError):
    """The server does not take a request: perhaps this image alone, perhaps any."""


@dataclass(frozen=True)
class Endpoint:
    """Where captions are asked for.

    Attributes:
        url: of the chat completions.
        model: its name there.
        key: sent as a bearer token, or ``""``.
    """

    url: str
    model: str
    key: str


def open_endpoint(url: str, model: str, key_env: str | None) -> Endpoint:
    """Return an endpoint by its base URL, e.g. ``http://localhost:8000/v1``.

    Raises:
        InvalidInputError: it is no web address.
        NotFoundError: the environment has no such key.
    """
    if not url.startswith(("http://", "https://")):
        raise InvalidInputError(f"endpoint {url!r} is no web address", hint="e.g. --endpoint http://localhost:8000/v1")
    if key_env and not os.environ.get(key_env):
        raise NotFoundError(
            f"the environment has no variable {key_env}, or it is empty", hint="set it, or mend --api-key-env"
        )
    base = url.rstrip("/")
    path = base if base.endswith("/chat/completions") else f"{base}/chat/completions"
    return Endpoint(path, model, os.environ[key_env] if key_env else "")


def ask(endpoint: Endpoint, image: LazyImage, prompt: str, max_new_tokens: int) -> str:
    """Return the caption of one image; busy servers are asked again, a few times, after a pause.

    Raises:
        Refused: the server does not take this image.
        OutputError: the server cannot be reached, refuses, or says something that is no answer.
    """
    body = json.dumps(_question(endpoint.model, image, prompt, max_new_tokens)).encode()
    headers = {"Content-Type": "application/json"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    request = urllib.request.Request(endpoint.url, body, headers, method="POST")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _opener().open(request, timeout=TIMEOUT_S) as response:
                said = response.read(_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            reason = f"{endpoint.url} answered {_reason(endpoint, error)}"
            if error.code in _REFUSED:
                raise Refused(reason) from error
            if error.code not in _AGAIN or attempt == ATTEMPTS:
                raise OutputError(reason, hint=_KEPT) from error
            _pause(attempt, error.headers.get("Retry-After", ""))
        except (OSError, ValueError) as error:
            if attempt == ATTEMPTS:
                raise OutputError(f"{endpoint.url} cannot be reached: {error}", hint=_KEPT) from error
            _pause(attempt, "")
        else:
            return _caption(endpoint, said)
    raise AssertionError  # the last attempt returns or raises


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing, so that the key goes to no other server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirect)


def _pause(attempt: int, asked: str) -> None:
    wait = float(asked) if asked.isdigit() else 2.0 ** (attempt - 1)
    time.sleep(min(wait, LONGEST_WAIT_S))


def _question(model: str, image: LazyImage, prompt: str, max_new_tokens: int) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.open().convert("RGB").save(buffer, "PNG")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}},
        {"type": "text", "text": prompt},
    ]
    messages = [{"role": "user", "content": content}]
    return {"model": model, "messages": messages, "max_tokens": max_new_tokens, "temperature": 0}


def _reason(endpoint: Endpoint, error: urllib.error.HTTPError) -> str:
    said = error.read(500).decode("utf-8", "replace")
    said = " ".join((said.replace(endpoint.key, "…") if endpoint.key else said).split())
    return f"{error.code} {error.reason}: {said[:200]}"


def _caption(endpoint: Endpoint, body: bytes) -> str:
    try:
        said = json.loads(body)["choices"][0]["message"]["content"] or ""
        text = said if isinstance(said, str) else "".join(part.get("text", "") for part in said)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise OutputError(f"{endpoint.url} sent no chat completion: {body[:200]!r}", hint=_KEPT) from error
    return text.strip()
