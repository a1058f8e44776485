"""The routes of the page: this machine alone is answered, nothing is fetched from elsewhere, and no path comes in."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from relope.errors import RelopeError
from relope.evaluate.numbers.metrics import Ints
from relope.serve.access import Access
from relope.serve.limits import Limits
from relope.serve.problems import Problem, invalid
from relope.serve.responses import body_of, problem_response
from relope.view import pages
from relope.view.board import Board
from relope.view.query import Query, read_query, select
from relope.view.verdicts import Verdicts

logger = logging.getLogger("relope.view")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_KEPT = {**HEADERS, "cache-control": "private, max-age=86400, immutable"}
_LIMITS = Limits(body_bytes=16 << 10)
_NO_IMAGE = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
Picture = Callable[[int, int], bytes | None]
"""Row in the store and number of an image → WebP, or None where there is none."""


@dataclass(frozen=True)
class View:
    """What the page is made of.

    Attributes:
        board: what is looked at.
        verdicts: what holds of the answers.
        thumbnail: a small picture, at once.
        image: the picture as it is, maybe from the data set.
        looks: what a router looks at in a sample of that id; None where no router can tell.
        router: that router's name; ``""`` for none.
        budget: percent that are escalated until the page is told otherwise.
        access: who is let in.
    """

    board: Board
    verdicts: Verdicts
    thumbnail: Picture
    image: Picture
    looks: Callable[[str], pages.Looks] | None
    router: str
    budget: int
    access: Access

    def page(self, http: Request) -> Response:
        """``GET /``: everything, also for a browser without scripts."""
        query, chosen = self._wanted(http)
        named = http.query_params.get("sample", "")
        number = self._number(named) if named else int(chosen[0]) if len(chosen) else None
        return HTMLResponse(
            pages.page(self.board, self.verdicts, query, chosen, number, self.router, reading=bool(named))
        )

    def list(self, http: Request) -> Response:
        """``GET /list``: a block of rows, and what holds of all that are wanted."""
        query, chosen = self._wanted(http)
        start = http.query_params.get("start", "0")
        if not (start.isascii() and start.isdigit() and len(start) < 10):
            raise invalid("start must be a whole number", "start")
        rows = pages.rows(self.board, self.verdicts, query, chosen, int(start))
        summary = pages.summary(self.board, self.verdicts, query, chosen)
        first = self.board.samples["id"][int(chosen[0])] if len(chosen) else None
        return JSONResponse({"total": len(chosen), "first": first, "rows": rows, "summary": summary})

    def sample(self, http: Request) -> Response:
        """``GET /sample``: one sample."""
        query, chosen = self._wanted(http)
        number = self._number(http.query_params.get("sample", ""))
        return HTMLResponse(pages.sample(self.board, self.verdicts, query, chosen, number, self.router))

    def overlay(self, http: Request) -> Response:
        """``GET /looks``: where the router's weight lies in a sample."""
        number = self._number(http.query_params.get("sample", ""))
        if self.looks is None:
            raise Problem(404, "no router here can tell where it looks", "no_weights")
        return HTMLResponse(pages.overlay(self.looks(self.board.samples["id"][number])))

    def thumb(self, http: Request) -> Response:
        """``GET /thumb/N``: the first image of the sample of that index, small; an empty one where none is kept."""
        content = self.thumbnail(self._row(http), 0)
        if content is None:
            return Response(_NO_IMAGE, media_type="image/svg+xml", headers=_KEPT)
        return Response(content, media_type="image/webp", headers=_KEPT)

    def picture(self, http: Request) -> Response:
        """``GET /image/N/K``: image K of the sample of index N, as good as it is to be had."""
        row, which = self._row(http), int(http.path_params["which"])
        content = self.image(row, which) or self.thumbnail(row, which)
        if content is None:
            raise Problem(404, "the image is neither in the store nor in its data set", "no_image")
        return Response(content, media_type="image/webp", headers=_KEPT)

    def static(self, http: Request) -> Response:
        """``GET /view.css`` and ``/view.js``."""
        name = http.url.path.removeprefix("/")
        return Response(pages.static_file(name), media_type=pages.STATIC[name])

    async def grade(self, http: Request) -> Response:
        """``POST /grade``: what a person says of an answer."""
        origin = http.headers.get("origin")
        if origin is not None and origin != f"http://{http.headers.get('host', '')}":
            raise Problem(403, "only this page itself may correct a grade", "origin")
        value = await body_of(http, _LIMITS)
        side, name, said = value.get("side"), value.get("sample"), value.get("correct", "")
        if side not in self.verdicts.sides or not isinstance(name, str) or said not in (True, False, None):
            raise invalid("a correction says side (small or large), sample and correct (true, false or null)")
        number = self._number(name)
        try:
            await run_in_threadpool(self.verdicts.say, side, number, said)
        except (RelopeError, OSError) as error:
            raise Problem(500, f"the correction could not be kept: {error}", "not_kept") from error
        return JSONResponse({"kept": True})

    def _wanted(self, http: Request) -> tuple[Query, Ints]:
        query = read_query(http.query_params, self.board, self.budget)
        return query, select(self.board, self.verdicts, query)

    def _number(self, name: str) -> int:
        """Return the index of a sample.

        Raises:
            Problem: there is none of that id.
        """
        if name not in self.board.number_of:
            raise Problem(404, "there is no such sample", "no_sample", "sample")
        return self.board.number_of[name]

    def _row(self, http: Request) -> int:
        number = int(http.path_params["number"])
        if not 0 <= number < len(self.board):
            raise Problem(404, "there is no such sample", "no_sample")
        return int(self.board.samples["row"][number])


Handler = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]


def make_app(view: View) -> Starlette:
    """Return the application."""
    table: list[tuple[str, Handler]] = [
        ("/", view.page),
        ("/list", view.list),
        ("/sample", view.sample),
        ("/looks", view.overlay),
        ("/thumb/{number:int}", view.thumb),
        ("/image/{number:int}/{which:int}", view.picture),
        *((f"/{name}", view.static) for name in pages.STATIC),
    ]
    routes = [Route(path, _guarded(view, handler), methods=["GET"]) for path, handler in table]
    routes.append(Route("/grade", _guarded(view, view.grade), methods=["POST"]))
    return Starlette(routes=routes, exception_handlers={HTTPException: _unknown})  # type: ignore[dict-item]


def _guarded(view: View, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Return a handler whose requests are let in first, and whose problems are told."""

    async def endpoint(http: Request) -> Response:
        try:
            view.access.check(http.headers)
            if handler == view.grade:
                answer = await view.grade(http)
            else:
                answer = await run_in_threadpool(handler, http)  # type: ignore[arg-type]
        except Problem as problem:
            answer = problem_response(problem, {})
        except RelopeError as error:
            answer = problem_response(Problem(422, str(error), "not_shown"), {})
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    return endpoint


async def _unknown(http: Request, error: HTTPException) -> Response:
    """Answer what is no route of ours."""
    return problem_response(
        Problem(error.status_code, "there is no such page", "not_found"), {**HEADERS, **(error.headers or {})}
    )
