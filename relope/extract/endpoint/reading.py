"""A chat completion as an answer: its text, what it took, and how sure the model was of each token."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from relope.types import Answer, Usage

Values = tuple[float, ...] | None


def answer_of(document: Any, seconds: float | None) -> Answer:
    """Return the answer in a chat completion.

    Args:
        document: the JSON of its body.
        seconds: from the request to its end; None where nobody has measured it, as in a batch.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it is no chat completion.
    """
    choice = document["choices"][0]
    text = _text(choice["message"])
    logprobs, entropies = _confidence(choice.get("logprobs"), text)
    return Answer(
        text=text.strip(),
        logprobs=logprobs,
        entropies=entropies,
        finish_reason=str(choice.get("finish_reason") or ""),
        usage=Usage.told(document.get("usage"), seconds),
        answered_by=str(document.get("model") or "")[:200],
    )


def _text(message: Mapping[str, Any]) -> str:
    content = message["content"]
    if content is None:  # a refusal in the model's own words is what a user would get
        content = message.get("refusal") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _confidence(logprobs_json: Any, text: str) -> tuple[Values, Values]:
    """Return log-probs and entropies (nats) of the answer's tokens, the end token left out; None where not told.

    Choice: a server tells a few alternatives of a token, not all. What they leave of the distribution counts as one
    further outcome, so that an entropy is at most what it would be of the whole.
    """
    tokens = logprobs_json.get("content") if isinstance(logprobs_json, dict) else None
    if not isinstance(tokens, list):
        return None, None
    try:
        spelt = [str(token["token"]) for token in tokens]
        if "".join(spelt) != text and "".join(spelt[:-1]) == text:  # some servers tell the end token too
            tokens = tokens[:-1]
        logprobs = tuple(_finite(token["logprob"]) for token in tokens)
        tops = [[_finite(top["logprob"]) for top in token.get("top_logprobs") or ()] for token in tokens]
    except (ValueError, LookupError, TypeError, AttributeError):
        return None, None
    return logprobs, tuple(map(_entropy, tops)) if all(tops) else None


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("a log-prob must be a finite number")
    return min(float(value), 0.0)


def _entropy(logprobs: Sequence[float]) -> float:
    shares = [math.exp(value) for value in logprobs]
    left = max(0.0, 1.0 - sum(shares))
    return float(-sum(share * math.log(share) for share in (*shares, left) if share > 0))
