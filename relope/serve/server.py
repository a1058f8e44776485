"""The server of a router: what listens, around its routes, ended early where the engine cannot start."""

from collections.abc import Callable

from relope.serve.access import Access
from relope.serve.app import make_app
from relope.serve.listening import Listener
from relope.serve.service import Service


class Server(Listener):
    """One server, until it is told to end.

    Args:
        service: what it serves.
        access: who is let in.
        host: address to listen at.
        port: 0 for any that is free.
        started: told the address when it listens.

    Raises:
        OutputError: it cannot listen there.
    """

    def __init__(self, service: Service, access: Access, host: str, port: int, started: Callable[[str], None]) -> None:
        self.failure: BaseException | None = None
        options, app = service.options, make_app(service, access, self._failed)
        super().__init__(app, host, port, started, header_s=options.limits.header_s, drain_s=options.drain_s)

    def serve_until_told(self) -> None:
        """Serve until SIGTERM or SIGINT, and end when all that is under way is answered.

        Raises:
            RelopeError: the engine cannot start.
        """
        super().serve_until_told()
        if self.failure is not None:
            raise self.failure

    def _failed(self, error: BaseException) -> None:
        """End, because the engine cannot start."""
        self.failure, self.should_exit = error, True
