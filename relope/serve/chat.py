"""The body of ``POST /v1/chat/completions``: what we read of it, and what of it only the large model can do.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from relope.extract.data.halves import half_in
from relope.serve.limits import Limits
from relope.serve.problems import invalid, too_large

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
Text = Annotated[str, Field(strict=True)]
_HARMLESS = frozenset({
    "metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
    "service_tier", "store", "verbosity", "modalities", "response_format",
})  # fmt: skip
"""Further fields that change nothing of a plain answer; two of them are looked into."""


def _pieces(content: Any) -> Any:
    """Return content as a list: a text is one piece."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else [] if content is None else content


def _several(texts: Any) -> Any:
    return [texts] if isinstance(texts, str) else [] if texts is None else texts


class _Model(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class ImageUrl(_Model):
    """Where an image is."""

    url: Text


class Part(_Model):
    """A piece of content: text, image_url, or what the small model does not read."""

    type: Literal["text", "image_url", "input_audio", "file", "refusal"]
    text: Text | None = None
    image_url: ImageUrl | None = None


class Message(_Model):
    """A turn."""

    role: Role
    content: Annotated[list[Part], BeforeValidator(_pieces)] = []


class StreamOptions(_Model):
    """What a stream tells beside its text."""

    include_usage: bool = False


class Request(_Model):
    """A body that has been read.

    Attributes:
        given: the body as it came, to be passed on.
    """

    messages: list[Message] = Field(min_length=1)
    model: Text = ""
    temperature: float | None = Field(None, ge=0, le=2, strict=True)
    top_p: float | None = Field(None, gt=0, le=1, strict=True)
    n: int | None = Field(None, ge=1, le=128, strict=True)
    max_tokens: int | None = Field(None, ge=1, strict=True)
    max_completion_tokens: int | None = Field(None, ge=1, strict=True)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63, strict=True)
    stop: Annotated[list[Text], BeforeValidator(_several)] = []
    stream: bool | None = Field(None, strict=True)
    stream_options: StreamOptions | None = None
    user: Text | None = None
    given: dict[str, Any] = Field(exclude=True, repr=False)

    @property
    def most_tokens(self) -> int | None:
        """The longest answer that is asked for; None where nothing is said of it."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the counted tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def images(self) -> Iterator[tuple[str, str]]:
        """Yield the address of every image, and its place in the body."""
        for m, message in enumerate(self.messages):
            for p, part in enumerate(message.content):
                if part.type == "image_url" and part.image_url:
                    yield part.image_url.url, f"messages.{m}.content.{p}.image_url"

    def beyond_small(self) -> str:
        """Return the first thing that only the large model can do, as a word for a header; ``""`` without one."""
        for name in ("tools", "functions", "audio", "logit_bias", "logprobs", "prediction", "web_search_options"):
            if self.given.get(name):
                return name
        if (self.n or 1) > 1:
            return "n"
        if (self.given.get("response_format") or {"type": "text"}) != {"type": "text"}:
            return "response_format"
        if (self.given.get("modalities") or ["text"]) != ["text"]:
            return "modalities"
        if self.messages[-1].role != "user":
            return "last-turn"
        for message in self.messages:
            if message.role in ("tool", "function") or (message.model_extra or {}).get("tool_calls"):
                return "tools"
            for part in message.content:
                if part.type not in ("text", "image_url") or (part.type == "image_url" and message.role != "user"):
                    return part.type
        strange = {k for k, v in self.given.items() if v not in (None, False, 0, [], {})} - _KNOWN - _HARMLESS
        return "field" if strange else ""


_KNOWN = frozenset(Request.model_fields) - {"given"}


def read_body(raw: bytes) -> dict[str, Any]:
    """Return the JSON object of a body.

    Raises:
        Problem: it is no JSON object; NaN and Infinity are none.
    """
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise invalid("the body is no JSON", code="invalid_json") from error
    if not isinstance(value, dict):
        raise invalid("the body must be a JSON object", code="invalid_json")
    return value


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def read_request(value: Mapping[str, Any], limits: Limits) -> Request:
    """Check a body.

    Raises:
        Problem: a field that is not allowed, named, or more of something than allowed.
    """
    _count(value, limits)
    try:
        request = Request.model_validate({**value, "given": dict(value)})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        param = ".".join(map(str, first["loc"]))
        raise invalid(f"{param}: {_lowered(first['msg'])}", param) from error
    _check(request, limits)
    return request


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _count(value: Mapping[str, Any], limits: Limits) -> None:
    """Refuse too many turns and parts before anything is built of them."""
    messages = value.get("messages")
    if not isinstance(messages, list):
        return  # told with the other fields
    if len(messages) > limits.messages:
        raise too_large(f"{len(messages):,} messages, of {limits.messages:,} that are allowed", "messages")
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    n_parts = sum(len(content) for content in contents if isinstance(content, list))
    if n_parts > limits.parts:
        raise too_large(f"{n_parts:,} parts of content, of {limits.parts:,} that are allowed", "messages")


def _check(request: Request, limits: Limits) -> None:
    """Refuse what the fields by themselves do not tell."""
    if not any(message.role == "user" for message in request.messages):
        raise invalid("messages: none is the user's", "messages")
    for m, message in enumerate(request.messages):
        for p, part in enumerate(message.content):
            if (part.type == "text" and part.text is None) or (part.type == "image_url" and part.image_url is None):
                raise invalid(f"messages.{m}.content.{p} lacks its {part.type}", f"messages.{m}.content.{p}")
    if (n_images := sum(1 for _ in request.images())) > limits.images:
        raise too_large(f"{n_images} images, of {limits.images} that are allowed", "messages")
    two = {request.max_tokens, request.max_completion_tokens} - {None}
    if len(two) > 1:
        raise invalid("max_tokens and max_completion_tokens differ", "max_tokens")
    if (request.most_tokens or 0) > limits.answer_tokens:
        name = "max_tokens" if request.max_tokens is not None else "max_completion_tokens"
        raise invalid(f"{name}: at most {limits.answer_tokens:,} are allowed", name)
    if len(request.stop) > 4 or "" in request.stop:
        raise invalid("stop: at most four texts, none of them empty", "stop")
    if request.stream_options is not None and not request.stream:
        raise invalid("stream_options: only with stream", "stream_options")
    if any(half_in(text) for text in _texts(request)):
        raise invalid("a text holds half of a surrogate pair, which is no Unicode", "messages")


def _texts(request: Request) -> Iterator[str]:
    yield from request.stop
    for message in request.messages:
        for part in message.content:
            yield part.text or ""
