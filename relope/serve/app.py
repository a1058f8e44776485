"""The routes of the server: each reads a request, asks the service, and answers."""

import asyncio
import contextlib
import logging
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from relope.serve.access import Access
from relope.serve.chat import Request, read_request
from relope.serve.exchange import Exchange
from relope.serve.problems import Problem, invalid, too_large
from relope.serve.records import Asked
from relope.serve.responses import Gone, ReplyResponse, body_of, json_response, problem_response, unless_gone
from relope.serve.service import Service, new_request_id
from relope.serve.status import status_page

logger = logging.getLogger("relope.serve")
Handler = Callable[[HttpRequest, str], Awaitable[Response]]
_NAME_CHARACTERS = 256
_WITH_IMAGES = 4
"""Choice: requests with images of one call of the score endpoint whose pixels are held at once."""
_REQUEST_ID = re.compile(r"req_[0-9a-f]{24}")
_STATUS_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'"


class Routes:
    """The handlers.

    Args:
        service: what they ask.
        access: who is let in.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self._service, self._access = service, access

    async def chat(self, http: HttpRequest, request_id: str) -> Response:
        """``POST /v1/chat/completions``."""
        limits = self._service.options.limits
        request = read_request(await body_of(http, limits), limits)
        reply = await unless_gone(http, Exchange(self._service, request, self._asked(http, request_id)).run())
        return ReplyResponse(reply, self._headers(request_id), limits.send_s)

    async def score(self, http: HttpRequest, request_id: str) -> Response:
        """``POST /v1/relope/score``: the decision on one request, or on each of ``requests``."""
        limits = self._service.options.limits
        value = await body_of(http, limits)
        asked = self._asked(http, request_id)
        if "requests" not in value:
            decision = await unless_gone(http, self._service.score(read_request(value, limits), asked))
            return json_response(decision, self._headers(request_id))
        given = value["requests"]
        if not isinstance(given, list) or not given or not all(isinstance(each, dict) for each in given):
            raise invalid("requests must be a list of chat requests", "requests")
        if len(given) > limits.batch:
            raise too_large(f"{len(given):,} requests, of {limits.batch} that are allowed", "requests")
        read = [_within(number, each, self._service) for number, each in enumerate(given)]
        turns = asyncio.Semaphore(_WITH_IMAGES)
        work = [self._scored(each, self._asked(http, new_request_id()), turns) for each in read]
        data = await unless_gone(http, _together(work))
        return json_response({"object": "list", "data": data}, self._headers(request_id))

    async def _scored(self, request: Request, asked: Asked, turns: asyncio.Semaphore) -> dict[str, Any]:
        """Return the decision on one of many; images are decoded when there is a turn."""
        async with turns if any(request.images()) else contextlib.nullcontext():
            return await self._service.score(request, asked)

    async def feedback(self, http: HttpRequest, request_id: str) -> Response:
        """``POST /v1/relope/feedback``: whether the answer of a request was right."""
        value = await body_of(http, self._service.options.limits)
        about, correct = value.get("request_id"), value.get("correct")
        if not isinstance(about, str) or not _REQUEST_ID.fullmatch(about):
            raise invalid("request_id must be what x-relope-request-id said", "request_id")
        if not isinstance(correct, bool):
            raise invalid("correct must be true or false", "correct")
        self._service.feedback(about, correct)
        return json_response({"object": "relope.feedback", "request_id": about}, self._headers(request_id))

    async def threshold(self, http: HttpRequest, request_id: str) -> Response:
        """``GET`` and ``PUT /v1/relope/threshold``."""
        service = self._service
        if http.method == "PUT":
            self._access.check_admin(http.headers)
            value = (await body_of(http, service.options.limits)).get("threshold", "")
            number = service.bundle.threshold if value is None else value
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number <= 1:
                raise invalid("threshold must be a number from 0 to 1, or null for the bundle's", "threshold")
            service.set_threshold(float(number))
        own = service.engine.threshold == service.bundle.threshold
        state = {"object": "relope.threshold", "threshold": service.engine.threshold, "promised": own}
        return json_response(state, self._headers(request_id))

    async def models(self, http: HttpRequest, request_id: str) -> Response:
        """``GET /v1/models``."""
        names = ["relope", self._service.engine.name, self._service.large.model.name]
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "relope"} for name in dict.fromkeys(names)]
        return json_response({"object": "list", "data": data}, self._headers(request_id))

    async def metrics(self, http: HttpRequest, request_id: str) -> Response:
        """``GET /metrics``."""
        text = await asyncio.to_thread(self._service.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4")

    async def status(self, http: HttpRequest, request_id: str) -> Response:
        """``GET /``: a page for a person."""
        page = await asyncio.to_thread(status_page, self._service)
        return HTMLResponse(page, headers={"content-security-policy": _STATUS_POLICY, "cache-control": "no-store"})

    async def health(self, http: HttpRequest, request_id: str) -> Response:
        """``GET /health``: the process lives."""
        return json_response({"status": "ok"}, {})

    async def ready(self, http: HttpRequest, request_id: str) -> Response:
        """``GET /ready``: the engine answers."""
        why = self._service.not_running
        return json_response({"status": why or "ready"}, {}, 503 if why else 200)

    def guarded(self, handler: Handler, is_open: bool = False) -> Callable[[HttpRequest], Awaitable[Response]]:
        """Return a handler whose requests are let in first, and whose problems are told.

        Args:
            handler: a method of this class.
            is_open: whether everybody may ask.
        """

        async def endpoint(http: HttpRequest) -> Response:
            request_id = new_request_id()
            try:
                if not is_open:
                    self._access.check(http.headers)
                return await handler(http, request_id)
            except Problem as problem:
                told = problem
            except Gone:
                return Response(status_code=499)  # nobody reads it
            except Exception as error:  # noqa: BLE001 (a bug of ours must not tell a client of the text it met)
                logger.error("%s: %s in %s", request_id, type(error).__name__, _place(error))
                told = Problem(500, "the server failed on this request", "bug")
            self._service.metrics.problems.labels(told.status, told.code).inc()
            return problem_response(told, self._headers(request_id))

        return endpoint

    def _headers(self, request_id: str) -> dict[str, str]:
        return {"x-relope-request-id": request_id, "x-relope-bundle": self._service.bundle_id}

    def _asked(self, http: HttpRequest, request_id: str) -> Asked:
        """Read our own headers.

        Raises:
            Problem: one that the operator does not allow, or that says nothing.
        """
        options, headers = self._service.options, http.headers
        threshold, route = headers.get("x-relope-threshold"), headers.get("x-relope-route")
        if (threshold is not None or route is not None) and not options.policy.overrides:
            raise Problem(403, "this server lets no request name its route or threshold", "no_overrides")
        if route not in (None, "small", "large"):
            raise invalid("x-relope-route must be small or large", "x-relope-route")
        session = headers.get("x-relope-session", "")
        if len(session) > _NAME_CHARACTERS:
            raise invalid(f"x-relope-session has more than {_NAME_CHARACTERS} characters", "x-relope-session")
        return Asked(
            request_id=request_id,
            threshold=None if threshold is None else _threshold(threshold),
            route=route,  # type: ignore[arg-type]
            session=session,
            authorization=self._access.others_authorization(headers) if options.forward_auth else "",
        )


def _threshold(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise invalid("x-relope-threshold must be a number from 0 to 1", "x-relope-threshold")
    return number


def _within(number: int, value: dict[str, Any], service: Service) -> Any:
    try:
        return read_request(value, service.options.limits)
    except Problem as problem:
        param = f"requests.{number}"
        raise Problem(problem.status, f"{param}: {problem.message}", problem.code, param) from problem


async def _together(work: list[Any]) -> list[Any]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as several:
        raise several.exceptions[0] from several
    return [task.result() for task in tasks]


def _place(error: BaseException) -> str:
    """Return where an error was raised; its text may hold a prompt's and is not told."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "an unknown place"


def make_app(service: Service, access: Access, failed: Callable[[BaseException], None]) -> Starlette:
    """Return the application.

    Args:
        service: behind it; started and stopped with it.
        access: who is let in.
        failed: told when the engine cannot start.
    """
    routes = Routes(service, access)
    table: list[tuple[str, str, Handler, bool]] = [
        ("POST", "/v1/chat/completions", routes.chat, False),
        ("POST", "/v1/relope/score", routes.score, False),
        ("POST", "/v1/relope/feedback", routes.feedback, False),
        ("GET", "/v1/relope/threshold", routes.threshold, False),
        ("PUT", "/v1/relope/threshold", routes.threshold, False),
        ("GET", "/v1/models", routes.models, False),
        ("GET", "/metrics", routes.metrics, False),
        ("GET", "/", routes.status, False),
        ("GET", "/health", routes.health, True),
        ("GET", "/ready", routes.ready, True),
    ]

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        """Start the engine beside the first requests, which the large model answers; end it after the last."""
        starting = asyncio.create_task(service.start())
        starting.add_done_callback(lambda task: None if task.cancelled() else _told(task, failed))
        try:
            yield
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await service.stop()

    return Starlette(
        routes=[
            Route(path, routes.guarded(handler, is_open), methods=[method]) for method, path, handler, is_open in table
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _unknown},  # type: ignore[dict-item]
    )


def _told(task: "asyncio.Task[None]", failed: Callable[[BaseException], None]) -> None:
    if (error := task.exception()) is not None:
        failed(error)


async def _unknown(http: HttpRequest, error: HTTPException) -> Response:
    """Answer what is no route of ours."""
    return problem_response(
        Problem(error.status_code, "there is no such route or method", "not_found"), error.headers or {}
    )
