"""An engine without a model, for tests of the server: the score stands in the text, the answer says what was read."""

import asyncio
import re

from relope.serve.engine import Counters, Decision, EngineError, Piece, Query

SCORE = re.compile(r"score=([\d.]+)")


class StubTicket:
    def __init__(self, engine, query):
        self.engine, self.query, self.cancelled, self.ended = engine, query, False, False
        self.text = "".join(part for message in query.messages for part in message.parts if isinstance(part, str))
        found = SCORE.search(self.text)
        self.score = float(found[1]) if found else 0.9
        self.gate = asyncio.Event()

    async def decision(self):
        if self.engine.delay_s:
            await asyncio.sleep(self.engine.delay_s)
        if "dies" in self.text or self.engine.dead:
            raise EngineError("the engine stopped")
        threshold = self.engine.threshold if self.query.threshold is None else self.query.threshold
        if "too long" in self.text:
            if self.query.route == "small":
                raise EngineError("the prompt is longer than the context")
            return Decision(route="large", threshold=threshold, reason="too-long", detail="longer than the context")
        kept = self.query.route == "small" or self.score >= threshold
        reason = "forced" if self.query.route == "small" else "score"
        return Decision(
            route="small" if kept else "large", threshold=threshold, reason=reason, score=self.score,
            p_correct=self.score, n_prompt_tokens=len(self.text.split()), n_answer_tokens=self.engine.n_read,
        )  # fmt: skip

    async def pieces(self):
        images = sum(not isinstance(part, str) for message in self.query.messages for part in message.parts)
        words = f"small: {self.text} [{images} images, {self.query.max_new_tokens}]".split(" ")
        try:
            for number, word in enumerate(words):
                if self.engine.piece_s:
                    await asyncio.sleep(self.engine.piece_s)
                if "breaks" in self.text and number == 2:
                    raise EngineError("the engine stopped")
                if "breaks-at-once" in self.text:
                    raise EngineError("the engine stopped")
                yield Piece(word + " " * (number < len(words) - 1), (number,))
            yield Piece("", (), "stop")
        finally:
            self.ended = True

    def cancel(self):
        self.cancelled = True
        self.engine.live.discard(self)


class StubEngine:
    name = "tiny-small"

    def __init__(self, threshold=0.5, delay_s=0.0, piece_s=0.0, n_read=0):
        self.n_read = n_read
        self.threshold, self.delay_s, self.piece_s = threshold, delay_s, piece_s
        self.dead = self.faulty = False
        self.queries, self.live = [], set()

    async def start(self):
        pass

    async def stop(self, grace=30.0):
        self.dead = True

    def can(self, query: Query):
        blind = "blind" in str([part for message in query.messages for part in message.parts])
        return ("no-images", "the small model sees none") if blind else None

    def submit(self, query):
        if self.dead:
            raise EngineError("the engine is not running")
        ticket = StubTicket(self, query)
        self.queries.append(query)
        self.live.add(ticket)
        return ticket

    def counters(self):
        return Counters(answering=len(self.live))

    def fault(self):
        return "engine-error" if self.faulty else None
