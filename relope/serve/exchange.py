"""One request, from the router's decision to the end of its answer: who is asked, who answers where that fails."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from relope.serve.answers import SmallAnswer
from relope.serve.chat import Request
from relope.serve.engine import Decision, EngineError, Piece, Query, Route, Ticket
from relope.serve.intake import Full
from relope.serve.large import LargeAnswer, Unavailable
from relope.serve.policy import Course, Facts, course, settle
from relope.serve.problems import Problem
from relope.serve.records import Asked, Record, decision_headers, texts_of
from relope.serve.service import Service
from relope.serve.sessions import is_continued, session_key
from relope.serve.sse import event_of

_BUSY = "small-busy"
"""Why the small model is not asked where the images of others take all the room."""
_ESCALATED = ("score", "session")
"""Reasons after which a conversation stays with the large model."""


@dataclass
class Reply:
    """An answer on its way: a body, or the events of a stream.

    Attributes:
        status: of HTTP.
        headers: of ours.
        body: of an answer that is no stream.
        events: of a stream.
        close: to be awaited once, with how it ended, whatever became of the events.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    events: AsyncIterator[bytes] | None
    close: Callable[[str], Awaitable[None]]


class Exchange:
    """One request and its answer.

    Args:
        service: what it is served by.
        request: the body.
        asked: what its headers say.
    """

    def __init__(self, service: Service, request: Request, asked: Asked) -> None:
        self._service, self._request, self._asked = service, request, asked
        self.record = Record(asked.request_id, stream=bool(request.stream))
        if service.options.log_prompts:
            self.record.messages = texts_of(request)
        self._session = session_key(asked.session, request)
        self._continued = bool(asked.session) or is_continued(request)
        # One that opens a conversation is told apart from others of the same words, which are requests of their own.
        self.record.session = self._session[:12] if self._continued else ""
        self._beyond = request.beyond_small()
        self._held = contextlib.ExitStack()
        self._ticket: Ticket | None = None
        self._answer: SmallAnswer | None = None
        self._large: LargeAnswer | None = None
        self._aside: asyncio.Task[None] | None = None

    async def run(self) -> Reply:
        """Return the answer, or its beginning.

        Raises:
            Problem: nobody can answer.
        """
        try:
            return await self._run()
        except BaseException as error:
            self.record.status = error.status if isinstance(error, Problem) else 0
            await self._close("refused" if isinstance(error, Problem) else "cancelled")
            raise

    async def _run(self) -> Reply:
        service = self._service
        facts = Facts(
            beyond_small=self._beyond or service.not_running,
            forced=self._asked.route,
            escalated_before=self._continued and service.sessions.escalated(self._session),
        )
        service.intake.check_images(self._request)
        first = course(facts, service.large_down, service.options.policy)
        if first.does == "large":
            if first.reason == "shadow":
                await self._decide_aside()
            return await self._from_large(first.reason)
        return await self._from_small(first)

    async def _from_small(self, first: Course) -> Reply:
        """Ask the router, and let answer whom it names."""
        forced = first.does == "small"
        query: Query | None = None
        try:
            query = await self._query("small" if forced else None)
            decision = await self._decide(query)
        except _CannotServe as why:
            return await self._from_large(why.reason, query)
        then = first if forced and decision.route == "small" else settle(
            decision, self._service.large_down, self._service.options.policy
        )  # fmt: skip
        if then.does == "large":
            return await self._from_large(then.reason, query)
        reason = "score" if then.reason.startswith("large-") and self.record.decided == "small" else then.reason
        if decision.route == "large":  # its row has stopped: answered from the start
            return await self._instead(reason, query)
        return await self._kept(reason)

    async def _instead(self, reason: str, query: Query | None) -> Reply:
        """Let the small model answer what the large one cannot.

        Args:
            reason: why it cannot.
            query: as it was read, where that was done before.
        """
        try:
            query = await self._query("small") if query is None else dataclasses.replace(query, route="small")
            await self._decide(query)
        except _CannotServe as why:
            again = {"retry-after": "1"} if why.reason == _BUSY else {}
            raise Problem(503, "neither model can answer", "unavailable", headers=again) from why
        return await self._kept(reason)

    async def _query(self, route: Route | None) -> Query:
        try:
            query = await self._service.intake.query(self._request, self._asked.threshold, route, self._held)
        except Full as error:
            raise _CannotServe(_BUSY) from error
        self._service.metrics.stage.labels("intake").observe(self.record.so_far_s)
        return query

    async def _decide(self, query: Query) -> Decision:
        """Wait for the router; a request counts once, however often the engine is asked."""
        service, record = self._service, self.record
        if why := service.engine.can(query):
            raise _CannotServe(why[0])
        try:
            ticket = service.engine.submit(query)
            if not query.score_only:
                self._ticket = ticket
            decision = await ticket.decision()
        except EngineError as error:
            raise _CannotServe("engine-error") from error
        if record.decision is None or record.decision.score is None:
            record.decision, record.decided_s = decision, record.so_far_s
            service.count_decision(record)
        return decision

    async def _decide_aside(self) -> None:
        """Ask the router while the large model answers."""
        service = self._service
        if self._beyond or service.not_running or len(service.aside) >= service.options.most_aside:
            return
        try:
            query = dataclasses.replace(await self._query(None), score_only=True)
        except _CannotServe:
            return

        async def decide() -> None:
            with contextlib.suppress(_CannotServe):
                await self._decide(query)

        self._aside = asyncio.create_task(decide())
        service.aside.add(self._aside)
        self._aside.add_done_callback(service.aside.discard)

    async def _kept(self, reason: str) -> Reply:
        """Return the small model's answer; where it fails before its first piece, the large one's."""
        decision, ticket = self.record.decision, self._ticket
        assert decision is not None and ticket is not None
        pieces = ticket.pieces()
        try:
            first = await anext(pieces, None)
        except EngineError:
            return await self._from_large("engine-error", fall_back=False)
        answer = self._answer = SmallAnswer(
            f"chatcmpl-{self.record.request_id}", self._service.engine.name, decision.n_prompt_tokens
        )
        self._take("small", reason, answer.model)
        whole = _with(first, pieces)
        if self._request.stream:
            return self._reply(200, events=self._guarded(answer.events(whole, self._request.wants_usage)))
        try:
            return self._reply(200, await answer.body(whole))
        except EngineError as error:
            raise Problem(502, "the small model broke off its answer", "engine_error") from error

    async def _from_large(self, reason: str, query: Query | None = None, fall_back: bool = True) -> Reply:
        """Return the large model's answer; where it cannot and the operator allows, the small one's.

        Args:
            reason: why it is asked.
            query: as it was read, where that was done before.
            fall_back: whether the small one may.
        """
        service = self._service
        try:
            answer = self._large = await service.large.ask(self._request.given, self._asked.authorization)
        except Unavailable as why:
            if fall_back and service.options.policy.local_fallback and not self._beyond and not service.not_running:
                return await self._instead(why.reason, query)
            raise why.problem from why
        self._take("large", reason, service.large.model.name)
        if answer.status == 200 and reason in _ESCALATED:
            service.sessions.keep(self._session)
        if answer.events is not None:
            return self._reply(200, events=self._guarded(answer.events))
        return self._reply(answer.status, answer.body)

    def _take(self, route: Route, reason: str, model: str) -> None:
        self.record.route, self.record.reason, self.record.model = route, reason, model
        self.record.first_s = self.record.so_far_s
        self._service.metrics.requests.labels(route, reason).inc()

    def _reply(self, status: int, body: bytes = b"", events: AsyncIterator[bytes] | None = None) -> Reply:
        self.record.status = status
        headers = {
            "x-relope-route": self.record.route or "",
            "x-relope-reason": self.record.reason,
            **decision_headers(self.record.decision if self._aside is None else None),
        }
        return Reply(status, headers, body, events, self._close)

    async def _guarded(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield events; a stream that breaks off says so in its last one, and has no end that looks like one."""
        try:
            async for event in events:
                yield event
        except (Unavailable, EngineError) as error:
            self.record.status = 502
            problem = error.problem if isinstance(error, Unavailable) else None
            yield event_of((problem or Problem(502, "the small model broke off its answer", "engine_error")).body)

    async def _close(self, ended: str) -> None:
        """Free what it held, count it and log it."""
        if self._ticket is not None:
            self._ticket.cancel()
        if self._large is not None:
            await self._large.close()
            usage = self._large.usage()
            self.record.prompt_tokens, self.record.answer_tokens = usage.prompt_tokens, usage.completion_tokens
            self.record.cached_tokens = usage.cached_tokens or 0
        elif self._answer is not None:
            self.record.prompt_tokens, self.record.answer_tokens = (
                self._answer.prompt_tokens,
                self._answer.answer_tokens,
            )
        ended = "broken" if ended == "done" and self.record.status == 502 else ended
        if self._aside is not None and not self._aside.done():
            self._aside.add_done_callback(lambda _: self._finish(ended))
        else:
            self._finish(ended)

    def _finish(self, ended: str) -> None:
        self._held.close()
        self._service.finish(self.record, ended)


class _CannotServe(Exception):
    """The small model cannot serve a query."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def _with(first: Piece | None, rest: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    if first is not None:
        yield first
    async for piece in rest:
        yield piece
