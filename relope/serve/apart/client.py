"""What is asked of a vLLM server: the states of a prompt, and the tokens of an answer as they come."""

import base64
import contextlib
import io
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import httpx
from PIL import Image

from relope.errors import InvalidInputError, OutputError
from relope.extract.data.turns import Part
from relope.serve.engine import EngineError, Query
from relope.serve.local.prompts import pieces_of
from relope.serve.sse import Cutter, value_of
from relope.vllm.states import ASK
from relope.vllm.tokens import PATH, request_of


class ServerGone(EngineError):
    """A server that cannot be reached, or broke off."""


@dataclass(frozen=True)
class Step:
    """Some more tokens of an answer.

    Attributes:
        token_ids: the end token included.
        logprobs: nats, one a token, where they were asked for.
        alternatives: log-probs of the likeliest tokens in the place of each, where they were asked for.
        finish: vLLM's word for why it ended, else None.
    """

    token_ids: Sequence[int]
    logprobs: Sequence[float]
    alternatives: Sequence[Sequence[float]]
    finish: str | None


class Client:
    """A vLLM server's chat completions; any thread may ask.

    Attributes:
        url: without a path.
        model: name that it serves.
    """

    def __init__(self, url: str, model: str, connections: int, timeout_s: float = 120.0) -> None:
        """Prepare.

        Args:
            url: of the server, with or without ``/v1``.
            model: name that it serves.
            connections: at most.
            timeout_s: until its first byte, and between two.
        """
        self.url, self.model = url.rstrip("/").removesuffix("/v1"), model
        self._http = httpx.Client(
            base_url=self.url,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            timeout=httpx.Timeout(timeout_s, connect=5.0),
            trust_env=False,
            event_hooks={"request": [lambda request: request.extensions.update(trace=self._noted)]},
        )
        self._sockets, self._over, self._lock = WeakSet[socket.socket](), False, threading.Lock()

    @property
    def over(self) -> bool:
        """Whether nothing more can be asked."""
        return self._over

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def break_off(self) -> None:
        """End whatever other threads wait for, with `ServerGone` there; nothing more can be asked."""
        with self._lock:
            self._over, connected = True, list(self._sockets)
        for connection in connected:
            _shut(connection)

    def _noted(self, event: str, info: Mapping[str, Any]) -> None:
        """Note each connection as it is made.

        Source: httpcore 1, docs/extensions.md (``trace``, and ``get_extra_info`` of a network stream).
        """
        if event == "connection.connect_tcp.complete" and (made := info["return_value"].get_extra_info("socket")):
            with self._lock:
                self._sockets.add(made)
            if self._over:
                _shut(made)

    def check(self) -> int | None:
        """Return the longest prompt with its answer that the server takes, in tokens; None where it does not say.

        Raises:
            OutputError: it cannot be reached, or does not tell its models.
            InvalidInputError: it serves another model, or other blocks of it.
        """
        try:
            answer = self._http.get("/v1/models")
            served: dict[str, int | None] = {
                str(model["id"]): model.get("max_model_len") for model in answer.json()["data"]
            }
        except httpx.HTTPError as error:
            raise OutputError(f"no vLLM server answers at {self.url} ({type(error).__name__})") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(f"what answers at {self.url} is no vLLM server") from error
        if self.model not in served:
            raise InvalidInputError(
                f"the bundle needs a server of {self.model}; {self.url} serves {', '.join(served) or 'nothing'}",
                hint="start it by the command that `relope vllm-command --bundle B` prints",
            )
        return served[self.model]

    def states(self, turns: Sequence[Mapping[str, Any]]) -> Any:
        """Let a prompt be read; return ``kv_transfer_params``, which tell where its states are.

        Raises:
            ServerGone: the server cannot be reached.
            EngineError: it refuses the prompt.
        """
        body = {**self._asked(turns), "max_tokens": 1, "temperature": 0.0, "kv_transfer_params": {ASK: "prompt"}}
        return self._handed("/v1/chat/completions", body)

    def states_of(self, tokens: Sequence[int], images: Sequence[Image.Image]) -> Any:
        """Let tokens be read; return ``kv_transfer_params``, which tell where their states are.

        Args:
            tokens: one for each image.
            images: in the order of their tokens.

        Raises:
            ServerGone: the server cannot be reached.
            EngineError: it refuses them.
        """
        shown = [_url(image) for image in images]
        return self._handed(PATH, request_of(tokens, shown, {"temperature": 0.0, "max_tokens": 1}, "prompt"))

    def _handed(self, path: str, body: Mapping[str, Any]) -> Any:
        try:
            answer = self._http.post(path, json=body)
            if answer.status_code != httpx.codes.OK:
                raise _refused(answer.status_code)
            return answer.json().get("kv_transfer_params")
        except httpx.HTTPError as error:
            raise ServerGone(f"the vLLM server does not answer ({type(error).__name__})") from error
        except (ValueError, AttributeError) as error:
            raise EngineError("the vLLM server answers something else than JSON") from error

    def answer(
        self,
        turns: Sequence[Mapping[str, Any]],
        query: Query,
        limit: int,
        prompt: Sequence[int],
        alternatives: int | None = None,
    ) -> Iterator[Step]:
        """Yield an answer as it comes; who stops listening ends it.

        Args:
            turns: the conversation.
            query: how its tokens are chosen; its stop texts are looked for here, not there.
            limit: most tokens.
            prompt: tokens that the server has to read the conversation as.
            alternatives: how many of the likeliest tokens' log-probs are told in the place of each token, beside its
                own; None = no log-probs.

        Raises:
            ServerGone: the server cannot be reached, or breaks off.
            EngineError: it refuses, or reads other tokens.
        """
        body = {
            **self._asked(turns),
            "max_tokens": limit,
            "temperature": query.temperature,
            "top_p": query.top_p,
            "stream": True,
            "return_token_ids": True,
            **({} if query.seed is None else {"seed": query.seed % (1 << 63)}),
            **({} if alternatives is None else {"logprobs": True, "top_logprobs": alternatives}),
        }
        try:
            with self._http.stream("POST", "/v1/chat/completions", json=body) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise _refused(answer.status_code)
                cut, unread = Cutter(), True
                for block in answer.iter_bytes():
                    for event in cut(block):
                        if (value := _value(event)) is None:
                            continue
                        if unread:
                            read = value.get("prompt_token_ids")
                            check_read(read if isinstance(read, list) else (), prompt)
                            unread = False
                        if (step := _step(value)) is None:
                            continue
                        yield step
                        if step.finish is not None:
                            return
        except httpx.HTTPError as error:
            raise ServerGone(f"the vLLM server broke off ({type(error).__name__})") from error
        except ValueError as error:
            raise ServerGone(f"the vLLM server broke off: {error}") from error
        raise ServerGone("the vLLM server ended an answer without an end")

    def _asked(self, turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {"model": self.model, "messages": list(turns)}


def turns_of(query: Query, style: str) -> list[dict[str, Any]]:
    """Return a conversation in OpenAI's shape, its pieces in the order in which our own prompt has them.

    Args:
        query: what is asked.
        style: of the chat template.
    """
    turns = []
    for message in query.messages:
        images = iter([part for part in message.parts if not isinstance(part, str)])
        pieces: list[Part] = pieces_of(message, style)
        content: Any = [_said(piece) if piece is not None else _shown(next(images)) for piece in pieces]
        if style == "text" and None not in pieces:
            content = "".join(piece or "" for piece in pieces)
        turns.append({"role": message.role, "content": content})
    return turns


def _shut(connected: socket.socket) -> None:
    """End a connection, also where another thread waits for it, which closing it would not."""
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _shown(image: Image.Image) -> dict[str, Any]:
    """Return an image as a part of a message."""
    return {"type": "image_url", "image_url": {"url": _url(image)}}


def _url(image: Image.Image) -> str:
    """Return an image as a URL that holds it: PNG keeps each pixel."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def check_read(theirs: Sequence[int], ours: Sequence[int]) -> None:
    """Refuse what the server has read where it is not what our own prompt is.

    Raises:
        EngineError: as said.
    """
    if list(theirs) != list(ours):
        raise EngineError(
            f"the vLLM server reads the prompt as {len(theirs):,} tokens that are not the {len(ours):,} of the "
            "bundle's chat template"
        )


def _value(event: bytes) -> dict[str, Any] | None:
    """Return what an event of the stream says; None where that is nothing.

    Raises:
        ServerGone: it tells of an error.
    """
    value = value_of(event)
    if value is not None and "error" in value:
        raise ServerGone("the vLLM server broke off with an error")
    return value


def _step(value: Mapping[str, Any]) -> Step | None:
    """Return what an event of the stream adds; None where that is nothing.

    Raises:
        ServerGone: it is none of vLLM's.
    """
    try:
        if not value["choices"]:
            return None
        choice = value["choices"][0]
        told = (choice.get("logprobs") or {}).get("content") or ()
        return Step(
            token_ids=tuple(int(number) for number in choice.get("token_ids") or ()),
            logprobs=tuple(float(token["logprob"]) for token in told),
            alternatives=tuple(
                tuple(float(other["logprob"]) for other in token.get("top_logprobs") or ()) for token in told
            ),
            finish=choice.get("finish_reason"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ServerGone("the vLLM server streams something else than an answer") from error


def _refused(status: int) -> EngineError:
    kind = ServerGone if status >= 500 else EngineError
    return kind(f"the vLLM server refused the query (status {status})")
