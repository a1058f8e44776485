"""Server-sent events: bytes cut into events, and what OpenAI's events say.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html (events end with a blank line) and
https://platform.openai.com/docs/api-reference/chat-streaming (``data: [DONE]`` ends a stream).
"""

import json
from collections.abc import Iterator
from typing import Any

DONE = b"data: [DONE]\n\n"
MOST_BYTES = 4 << 20
"""Of one event."""


class Cutter:
    """Cuts blocks of bytes into whole events; what is left at the end was half an event."""

    def __init__(self) -> None:
        self.rest = b""

    def __call__(self, block: bytes) -> Iterator[bytes]:
        """Yield the events that a block completes, each with its blank line.

        Raises:
            ValueError: an event grows beyond all measure.
        """
        self.rest += block
        if b"\r" in self.rest:  # its line feed may come with the next block
            self.rest = self.rest.replace(b"\r\n", b"\n")
        if len(self.rest) > MOST_BYTES:
            raise ValueError("an event of the stream is too long")
        *whole, self.rest = self.rest.split(b"\n\n")
        for event in whole:
            if event.strip(b"\n"):
                yield event.lstrip(b"\n") + b"\n\n"


def data_of(event: bytes) -> bytes:
    """Return the data of an event; ``b""`` of a comment, which keeps a connection alive."""
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def value_of(event: bytes) -> dict[str, Any] | None:
    """Return the JSON object of an event; None of the last one, of a comment, and of what is none."""
    data = data_of(event)
    if not data.startswith(b"{"):
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def event_of(value: Any) -> bytes:
    """Return a JSON value as an event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
