"""What listens: uvicorn at one address, with time limits on slow clients, ended by SIGTERM when all is answered."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from relope.errors import OutputError

_HEADER_BYTES = 32 << 10
_CONNECTIONS = 2048


def _impatient(header_s: float) -> type[H11Protocol]:
    """Return uvicorn's protocol, with an end to waiting for the lines before a body.

    uvicorn itself ends only connections that are idle between two requests.
    """

    class Impatient(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._waiting = self.loop.call_later(header_s, self._end)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            idle = self.conn.their_state is h11.IDLE
            if not idle and self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None
            if idle and self._waiting is None:
                self._waiting = self.loop.call_later(header_s, self._end)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
            super().connection_lost(exc)

        def _end(self) -> None:
            self._waiting = None
            if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
                self.transport.close()

    return Impatient


class Listener(uvicorn.Server):
    """A server at an address of this machine, until it is told to end.

    Args:
        app: what answers.
        host: address to listen at.
        port: 0 for any that is free.
        started: told the address when it listens.
        header_s: seconds that a client may take for the lines before a body.
        drain_s: seconds that requests under way are given at the end.

    Raises:
        OutputError: it cannot listen there.
    """

    def __init__(
        self, app: Starlette, host: str, port: int, started: Callable[[str], None], *, header_s: float, drain_s: float
    ) -> None:
        self._started, self._host, self._socket = started, host, _listening(host, port)
        super().__init__(
            uvicorn.Config(
                app,
                http=_impatient(header_s),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=int(drain_s),
                limit_concurrency=_CONNECTIONS,
                h11_max_incomplete_event_size=_HEADER_BYTES,
            )
        )

    def serve_until_told(self) -> None:
        """Serve until SIGTERM or SIGINT, and end when all that is under way is answered."""
        self.run(sockets=[self._socket])

    def handle_exit(self, sig: int, frame: Any) -> None:
        """End, at once when it is asked for a second time; uvicorn's own would kill the process by the signal after."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: Any = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)
        if not self.should_exit:
            shown = f"[{self._host}]" if ":" in self._host else self._host
            self._started(f"http://{shown}:{self._socket.getsockname()[1]}")


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OutputError: the address is taken, or not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, each answer waits 40 ms.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(_CONNECTIONS)
        return made
    except OSError as error:
        made.close()
        raise OutputError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}", hint="give another --port, or --port 0"
        ) from error


def logger_on_stderr(name: str, form: str, *, quiet: bool) -> logging.Logger:
    """Return a server's own log on stderr: what it does, never what it was asked.

    Args:
        name: of the logger.
        form: of a line, as `logging.Formatter` takes it.
        quiet: keep to warnings.
    """
    logger = logging.getLogger(name)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(form))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    return logger
