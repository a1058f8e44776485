"""What a call to the large model may cost where its server has counted nothing: by the size of the request."""

from collections.abc import Iterator, Mapping
from typing import Any

from relope.evaluate.numbers.costs import ModelCost
from relope.serve.large import dollars_of

BYTES_A_TOKEN, IMAGE_TOKENS = 2, 2000
"""Of a prompt. Choice: what `extract --max-usd` sets aside for a question."""
ANSWER_TOKENS = 1024
"""Choice: of an answer whose request names no ``max_tokens``."""


def estimated_usd(price: ModelCost | None, body: Mapping[str, Any], n_bytes: int) -> float:
    """Return the dollars that a request and its answer may cost, rather too many; 0 without a price.

    Args:
        price: of the large model's tokens.
        body: of the request.
        n_bytes: of it as it is sent.
    """
    media = list(_media(body))
    prompt = (n_bytes - sum(media)) // BYTES_A_TOKEN + IMAGE_TOKENS * len(media)
    answer = body.get("max_completion_tokens") or body.get("max_tokens") or ANSWER_TOKENS
    return dollars_of(price, prompt, answer * (body.get("n") or 1)) or 0.0


def _media(body: Mapping[str, Any]) -> Iterator[int]:
    """Yield the letters of each image, sound and file, whose tokens have nothing to do with their bytes."""
    for message in body["messages"]:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if part.get("type") not in ("text", "refusal"):
                told = [value for inner in part.values() if isinstance(inner, dict) for value in inner.values()]
                yield sum(len(value) for value in told if isinstance(value, str))
