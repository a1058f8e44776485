"""Which conversations are with the large model: digests with a time to live, no texts."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

from relope.serve.chat import Request


class Sessions:
    """Conversations that were escalated; each stays so for a while after its last request.

    Args:
        ttl_s: seconds; 0 keeps none.
        most: conversations that are kept; beyond, the one that was quiet longest goes.
        now: a clock, seconds.
    """

    def __init__(self, ttl_s: float, most: int = 100_000, now: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s, self._most, self._now = ttl_s, most, now
        self._until: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def escalated(self, key: str) -> bool:
        """Return whether a conversation is with the large model."""
        until = self._until.get(key) if key else None
        if until is None:
            return False
        if until <= self._now():
            del self._until[key]
            return False
        return True

    def keep(self, key: str) -> None:
        """Say that the large model has answered in a conversation."""
        if not key or not self._ttl_s:
            return
        self._until[key] = self._now() + self._ttl_s
        self._until.move_to_end(key)
        while len(self._until) > self._most or next(iter(self._until.values())) <= self._now():
            self._until.popitem(last=False)


def session_key(named: str, request: Request) -> str:
    """Return what a conversation is known by: its name, else a digest of its user and its first messages.

    The first messages are those up to the user's first. A user alone would tie everything that one person, or one
    program that sends one name for all, ever asks to the large model.

    Args:
        named: by the client, or ``""``.
        request: a turn of it.
    """
    if named:
        return hashlib.sha256(b"named\0" + named.encode(errors="replace")).hexdigest()
    digest = hashlib.sha256((request.user or "").encode(errors="replace"))
    for message in request.messages:
        for part in message.content:
            content = part.text if part.type == "text" else part.image_url.url if part.image_url else part.type
            digest.update(f"\0{message.role}\0{part.type}\0{content}".encode(errors="replace"))
        if message.role == "user":
            break
    return digest.hexdigest()


def is_continued(request: Request) -> bool:
    """Return whether a request goes on with a conversation: a first turn by itself is always decided anew."""
    return any(message.role == "assistant" for message in request.messages)
