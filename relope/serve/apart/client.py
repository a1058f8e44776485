"""What is asked of a vLLM server: the states of a prompt, and the tokens of an answer as they come."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from PIL import Image

from relope.errors import InvalidInputError, OutputError
from relope.extract.data.turns import Part
from relope.serve.engine import EngineError, Query
from relope.serve.local.prompts import pieces_of
from relope.serve.sse import Cutter, value_of
from relope.vllm.states import ASK


class ServerGone(EngineError):
    """A server that cannot be reached, or broke off."""


@dataclass(frozen=True)
class Step:
    """Some more tokens of an answer.

    Attributes:
        token_ids: the end token included.
        logprobs: nats, one a token, where they were asked for.
        finish: vLLM's word for why it ended, else None.
    """

    token_ids: Sequence[int]
    logprobs: Sequence[float]
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
        )

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

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
        try:
            answer = self._http.post("/v1/chat/completions", json=body)
            if answer.status_code != httpx.codes.OK:
                raise _refused(answer.status_code)
            return answer.json().get("kv_transfer_params")
        except httpx.HTTPError as error:
            raise ServerGone(f"the vLLM server does not answer ({type(error).__name__})") from error
        except (ValueError, AttributeError) as error:
            raise EngineError("the vLLM server answers something else than JSON") from error

    def answer(
        self, turns: Sequence[Mapping[str, Any]], query: Query, limit: int, logprobs: bool = False
    ) -> Iterator[Step]:
        """Yield an answer as it comes; who stops listening ends it.

        Args:
            turns: the conversation.
            query: how its tokens are chosen; its stop texts are looked for here, not there.
            limit: most tokens.
            logprobs: of the raw distribution, too.

        Raises:
            ServerGone: the server cannot be reached, or breaks off.
            EngineError: it refuses.
        """
        body = {
            **self._asked(turns),
            "max_tokens": limit,
            "temperature": query.temperature,
            "top_p": query.top_p,
            "stream": True,
            "return_token_ids": True,
            **({} if query.seed is None else {"seed": query.seed % (1 << 63)}),
            **({"logprobs": True, "top_logprobs": 0} if logprobs else {}),
        }
        try:
            with self._http.stream("POST", "/v1/chat/completions", json=body) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise _refused(answer.status_code)
                cut = Cutter()
                for block in answer.iter_bytes():
                    for event in cut(block):
                        if (step := _step(event)) is None:
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


def _said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _shown(image: Image.Image) -> dict[str, Any]:
    """Return an image as a part of a message: PNG keeps each pixel."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG", compress_level=1)
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def _step(event: bytes) -> Step | None:
    """Return what an event of the stream adds; None where that is nothing.

    Raises:
        ServerGone: it tells of an error, or is none of vLLM's.
    """
    value = value_of(event)
    if value is None:
        return None
    if "error" in value:
        raise ServerGone("the vLLM server broke off with an error")
    try:
        if not value["choices"]:
            return None
        choice = value["choices"][0]
        told = (choice.get("logprobs") or {}).get("content") or ()
        ids = tuple(int(number) for number in choice.get("token_ids") or ())
        return Step(ids, tuple(float(token["logprob"]) for token in told), choice.get("finish_reason"))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ServerGone("the vLLM server streams something else than an answer") from error


def _refused(status: int) -> EngineError:
    kind = ServerGone if status >= 500 else EngineError
    return kind(f"the vLLM server refused the query (status {status})")
