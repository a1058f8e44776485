"""Tokens in, tokens out: a vLLM server's endpoint that takes a prompt as the tokens that it is.

The chat and completion endpoints tokenise a text again, and what a model has said is not what its text gives.
Layout: vLLM 0.32, ``entrypoints/scale_out/token_in_token_out/protocol.py`` (``GenerateRequest``, ``GenerateResponse``);
a server has it with ``--enable-scale-out``.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from relope.errors import OutputError
from relope.vllm.states import ASK

FLAGS = ("--enable-scale-out",)
"""Arguments of a server that has this endpoint."""

PATH = "/inference/v1/generate"

ANSWER_BYTES = 256 << 20
"""Of an answer at most; one with the log-probs of 20 alternatives of 4,096 tokens takes 6 MiB."""

_SHOWN = 200
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it shares a folder with us: no proxy between


class ServerError(OutputError):
    """A server that is gone, or that says something else than an answer."""


class RefusedError(ServerError):
    """A server that lives and does not take a request."""


@dataclass(frozen=True)
class Choice:
    """One answer.

    Attributes:
        token_ids: of the answer, the token that ended it included.
        logprobs: of each token in turn; empty where they were not asked for.
        alternatives: of each token in turn: token → log-prob of the likeliest, its own included.
        stopped_by: a text, where one has ended it.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    alternatives: tuple[Mapping[int, float], ...]
    stopped_by: str


@dataclass(frozen=True)
class Reply:
    """What a server answers.

    Attributes:
        prompt: tokens as it has read them, images unfolded.
        choices: in their order.
        handed: its ``kv_transfer_params``.
        last: of the prompt's last token: token → log-prob, itself included, where it was asked for.
    """

    prompt: list[int]
    choices: tuple[Choice, ...]
    handed: Any
    last: Mapping[int, float]


@dataclass(frozen=True)
class Served:
    """What a server says of itself.

    Attributes:
        name: of its model.
        context: longest prompt with its answer, in tokens.
        version: of vLLM.
    """

    name: str
    context: int
    version: str


@dataclass(frozen=True)
class Tokens:
    """The endpoint of one server.

    Attributes:
        url: of the server, without a path.
        timeout_s: after which a silent server counts as gone.
    """

    url: str
    timeout_s: float = 600.0

    def served(self) -> Served:
        """Return what the server says of itself.

        Raises:
            ServerError: it does not answer as vLLM does.
        """
        models, told = self._sent("/v1/models"), self._sent("/version")
        try:
            (model,) = models["data"]
            return Served(str(model["id"]), int(model["max_model_len"]), str(told["version"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(f"{self.url} does not answer as a vLLM server does") from error

    def ask(self, prompt: Sequence[int], images: Sequence[str], sampling: Mapping[str, Any], states: str = "") -> Reply:
        """Return what follows a prompt.

        Args:
            prompt: its tokens, one for each image.
            images: data URIs, in the order of their tokens.
            sampling: settings of vLLM's ``SamplingParams``; what is left out is vLLM's own, not the checkpoint's.
            states: ``prompt`` or ``all``, whose states shall be handed over; ``""`` = none.

        Raises:
            RefusedError: the server does not take it.
            ServerError: the server is gone, or says something else.
        """
        reply = self._sent(PATH, request_of(prompt, images, sampling, states))
        try:
            choices = sorted(reply["choices"], key=lambda choice: int(choice["index"]))
            last = (reply.get("prompt_logprobs") or [None])[-1] or {}
            return Reply(
                prompt=[int(token) for token in reply["prompt_token_ids"]],
                choices=tuple(map(_choice, choices)),
                handed=reply.get("kv_transfer_params"),
                last={int(token): float(of["logprob"]) for token, of in last.items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, LookupError) as error:
            raise ServerError(f"{self.url} does not answer as a vLLM server does") from error

    def _sent(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"})
        try:
            with _OPENER.open(request, timeout=self.timeout_s) as answer:
                return json.loads(answer.read(ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            reason = f"{self.url} answered {error.code}: {_reason(error)}"
            raise (RefusedError if 400 <= error.code < 500 else ServerError)(reason) from error
        except (OSError, HTTPException, ValueError) as error:
            cause = getattr(error, "reason", error)
            raise ServerError(f"{self.url} cannot be reached: {cause or type(cause).__name__}") from error


def request_of(
    prompt: Sequence[int], images: Sequence[str], sampling: Mapping[str, Any], states: str = ""
) -> dict[str, Any]:
    """Return the body of a request; its arguments are those of `Tokens.ask`."""
    body: dict[str, Any] = {
        "token_ids": list(prompt),
        "return_token_ids": True,
        "sampling_params": {"detokenize": "stop" in sampling, **sampling},
    }
    if images:
        body["content_parts"] = [{"type": "image_url", "url": image} for image in images]
    if states:
        body["kv_transfer_params"] = {ASK: states}
    return body


def _choice(choice: Mapping[str, Any]) -> Choice:
    told = (choice.get("logprobs") or {}).get("content") or []
    ids, stopped_by = tuple(int(token) for token in choice["token_ids"]), choice.get("stop_reason")
    if told and [int(token["token_id"]) for token in told] != list(ids):
        raise ValueError("log-probs of other tokens")
    return Choice(
        token_ids=ids,
        logprobs=tuple(float(token["logprob"]) for token in told),
        alternatives=tuple(
            {int(token["token_id"]): float(token["logprob"])}
            | {int(top["token_id"]): float(top["logprob"]) for top in token["top_logprobs"]}
            for token in told
        ),
        stopped_by=stopped_by if isinstance(stopped_by, str) else "",
    )


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        reply = error.read(64 << 10).decode("utf-8", "replace")
        told = json.loads(reply)["error"]["message"]
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        told = error.reason
    return " ".join(str(told).split())[:_SHOWN]
