"""An answer of the small model in OpenAI's shapes: one body, or the events of a stream.

Source: https://platform.openai.com/docs/api-reference/chat/object and …/chat-streaming.
"""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from relope.serve.engine import Piece
from relope.serve.sse import DONE, event_of


@dataclass
class SmallAnswer:
    """What is known of an answer while it grows.

    Attributes:
        id: of the completion.
        model: that answers.
        prompt_tokens: of its prompt.
        answer_tokens: so far.
        created: Unix seconds.
    """

    id: str
    model: str
    prompt_tokens: int
    answer_tokens: int = 0
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def usage(self) -> dict[str, int]:
        """The tokens as clients read them."""
        total = self.prompt_tokens + self.answer_tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.answer_tokens, "total_tokens": total}

    async def body(self, pieces: AsyncIterator[Piece]) -> bytes:
        """Return the whole answer."""
        texts, finish = list[str](), "stop"
        async for piece in pieces:
            texts.append(piece.text)
            self.answer_tokens += piece.n_tokens
            finish = piece.finish or finish
        message = {"role": "assistant", "content": "".join(texts), "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        head = {"id": self.id, "object": "chat.completion", "created": self.created, "model": self.model}
        return json.dumps({**head, "choices": [choice], "usage": self.usage}, ensure_ascii=False).encode()

    async def events(self, pieces: AsyncIterator[Piece], usage: bool) -> AsyncIterator[bytes]:
        """Yield a stream: the role, the texts as they come, why it ended, and the tokens where they are asked for."""
        yield self._event({"role": "assistant", "content": ""}, None, usage)
        finish = "stop"
        async for piece in pieces:
            self.answer_tokens += piece.n_tokens
            finish = piece.finish or finish
            if piece.text:
                yield self._event({"content": piece.text}, None, usage)
        yield self._event({}, finish, usage)
        if usage:
            yield event_of({**self._head, "choices": [], "usage": self.usage})
        yield DONE

    @property
    def _head(self) -> dict[str, Any]:
        return {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}

    def _event(self, delta: dict[str, str], finish: str | None, usage: bool) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return event_of({**self._head, "choices": [choice], **({"usage": None} if usage else {})})
