"""The thread that has the model: it reads waiting prompts in batches, and decodes what is kept between two of them."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import torch

from relope.extract.model.stops import Stops
from relope.serve.engine import Counters, Decision, EngineError, EngineSettings, Piece, Timing
from relope.serve.local.batches import Request, take
from relope.serve.local.deciding import decided, unserved
from relope.serve.local.prompt_batch import PromptBatch, ServedModel
from relope.serve.local.reading import read_prompts, splits
from relope.serve.local.rows import Answering, Noted, Row
from relope.serve.local.tickets import ThreadTicket

_log = logging.getLogger("relope.serve")


class Worker:
    """Waiting requests, rows that are being answered, and the thread that works on both."""

    def __init__(self, served: ServedModel, settings: EngineSettings) -> None:
        """Make ready; `run` is the thread.

        Args:
            served: the model, which no other thread may run from here on, and its router.
            settings: how much is done at once.
        """
        self.served, self.settings = served, settings
        self.counters, self._counting = Counters(), threading.Lock()
        self._wake = threading.Condition()
        self._ready: deque[Request] = deque()
        self._stopping, self._ended, self._deadline = False, False, float("inf")
        noting = not served.scorer.before_answer
        self._answering = {far: Answering(served.backbone, noting) for far in (False, True)}
        self._most = settings.max_rows if splits(served.backbone, served.scorer.layer) else 1

    @property
    def n_ready(self) -> int:
        """Requests that no batch has taken yet."""
        return len(self._ready)

    @property
    def n_rows(self) -> int:
        """Answers that are being written."""
        return sum(len(part.rows) for part in self._answering.values())

    def put(self, request: Request) -> None:
        """Queue a request; any thread may."""
        with self._wake:
            if not self._ended:
                self._ready.append(request)
                self._wake.notify()
                return
        request.ticket.fail(EngineError("the engine stopped"))

    def notice(self) -> None:
        """Look for cancelled queries now; any thread may ask."""
        with self._wake:
            self._wake.notify()

    def stop(self, grace: float) -> None:
        """Let the thread end once nothing is left to do, after ``grace`` seconds at the latest."""
        with self._wake:
            self._stopping, self._deadline = True, time.perf_counter() + grace
            self._wake.notify()

    def run(self) -> None:
        """Work until stopped."""
        try:
            while self._wait():
                self._forget_cancelled()
                if batch := self._taken():
                    self._read(batch)
                for part in self._answering.values():
                    if part.rows:
                        self._step(part)
        except BaseException:
            _log.exception("the engine's thread ended")
            raise
        finally:
            self._end()

    def _wait(self) -> bool:
        """Wait for work; return whether there is any, and time for it."""
        with self._wake:
            while not self._ready and not self.n_rows and not self._stopping:
                self._wake.wait()
            idle = not self._ready and not self.n_rows
        return not (self._stopping and (idle or time.perf_counter() > self._deadline))

    def _end(self) -> None:
        with self._wake:
            self._stopping = self._ended = True
            left = [request.ticket for request in self._ready]
            self._ready.clear()
        for part in self._answering.values():
            left += [row.ticket for row in part.rows]
            part.clear()
        self._fail(left, "the engine stopped")

    def _forget_cancelled(self) -> None:
        with self._wake:
            left = [request for request in self._ready if request.ticket.cancelled]
            self._ready = deque(request for request in self._ready if request not in left)
        gone = [request.ticket for request in left]
        for part in self._answering.values():
            gone += [row.ticket for row in part.give_up()]
        self._given_up(gone)

    def _given_up(self, tickets: Sequence[ThreadTicket]) -> None:
        self._count(cancelled=len(tickets))
        for ticket in tickets:
            ticket.fail(EngineError("the query was cancelled"))

    def _taken(self) -> list[Request]:
        grown = [part.width + max(row.n_left for row in part.rows) for part in self._answering.values() if part.rows]
        with self._wake:
            batch = take(self._ready, self.settings, self.n_rows, max(grown, default=0), self._most)
            for request in batch:
                self._ready.remove(request)
        self._count(deciding=len(batch) - self.counters.deciding)
        return batch

    def _read(self, batch: Sequence[Request]) -> None:
        """Read a batch, tell its decisions, and let what is kept join the others."""
        served, this = self.served, PromptBatch(self.served, batch, self.tell)
        scorer = served.scorer
        try:
            with torch.inference_mode():
                kept = read_prompts(served.backbone, this.inputs(), scorer.layer, this.decide, scorer.earlier)
                if kept is not None:
                    part = self._answering[batch[0].prompt.far]
                    self._tell(part.join(this.rows(kept), kept.read, kept.logits, kept.final))
        except Exception as error:  # noqa: BLE001 one bad prompt must not take the others, nor the engine, with it
            if len(batch) > 1 and not any(request.ticket.decided for request in batch):
                for request in batch:
                    self._read([request])
                return
            _log.exception("a batch of %d failed", len(batch))
            self._fail([request.ticket for request in batch], f"the engine failed ({type(error).__name__})")
        finally:
            self._given_up(this.given_up)
            self._count(deciding=-self.counters.deciding)

    def _step(self, part: Answering) -> None:
        rows = list(part.rows)
        try:
            with torch.inference_mode():
                pieces = part.step()
        except Exception as error:  # noqa: BLE001 its rows are lost, the engine is not
            _log.exception("a step of %d rows failed", len(rows))
            part.clear()
            self._fail([row.ticket for row in rows], f"the engine failed ({type(error).__name__})")
            return
        self._tell(pieces)

    def _tell(self, pieces: Sequence[tuple[Row, Piece]]) -> None:
        self._count(answer_tokens=sum(piece.n_tokens for _, piece in pieces))
        for row, piece in pieces:
            if row.noted is None:
                row.ticket.add(piece)
                continue
            row.noted.pieces.append(piece)
            if piece.finish is not None:
                try:
                    self._decide_after(row, row.noted)
                except Exception as error:  # noqa: BLE001 this answer cannot be judged, the others can
                    _log.exception("an answer could not be scored")
                    self._fail([row.ticket], f"the router failed ({type(error).__name__})")

    def _decide_after(self, row: Row, noted: Noted) -> None:
        """Decide on an answer that is whole; tell it where it is kept."""
        served, request, now = self.served, row.request, time.perf_counter()
        said = noted.said(row.token_ids, Stops(request.query.stop, served.decode), served.backbone.hidden_size)
        score = served.scorer.after(request.prompt, row.at_prompt, said)
        timing = Timing(row.began - request.since, now - row.began, time.perf_counter() - now)
        n = request.prompt.n_tokens, len(row.token_ids)
        self.tell(request.ticket, decided(request.query, request.threshold, score, served.calibrated, timing, *n))
        if request.ticket.is_kept:
            for piece in noted.pieces:
                request.ticket.add(piece)

    def tell(self, ticket: ThreadTicket, decision: Decision) -> None:
        """Tell a decision, and count it."""
        with self._counting:
            by_route = {**self.counters.decided, decision.route: self.counters.decided[decision.route] + 1}
            self.counters = replace(self.counters, decided=by_route)
        self._count(prompt_tokens=decision.n_prompt_tokens)
        ticket.decide(decision)

    def _fail(self, tickets: Sequence[ThreadTicket], why: str) -> None:
        """Let the large model take what is not decided yet; of the rest there is no more answer."""
        open_ones = [ticket for ticket in tickets if not ticket.over]
        self._count(failed=len(open_ones))
        for ticket in open_ones:
            if not ticket.decided and ticket.query.route != "small" and not self._stopping:
                self.tell(ticket, unserved(ticket.threshold, "engine-error", why))
            else:
                ticket.fail(EngineError(why))

    def _count(self, **more: int) -> None:
        """Add to some counters, before anybody is told what they count; other threads tell refusals."""
        with self._counting:
            now = self.counters
            self.counters = replace(now, **{name: getattr(now, name) + n for name, n in more.items()})
