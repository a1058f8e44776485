"""What a client is told when a request fails, in the shape of OpenAI's errors; never with words of a prompt in it.

Source: https://platform.openai.com/docs/guides/error-codes and the `openai` SDK, which reads ``error.message``,
``type``, ``param`` and ``code``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


@dataclass(eq=False)  # not frozen: Python itself writes into an exception that is raised
class Problem(Exception):
    """A request that is refused or has failed.

    Attributes:
        status: of HTTP.
        message: facts, in one line; values of ours, and of the client's only names and numbers.
        code: a fixed word for programs, or ``""``.
        param: the field of the body that is wrong, e.g. ``messages.0.role``, or ``""``.
        headers: sent along, e.g. ``retry-after``.
    """

    status: int
    message: str
    code: str = ""
    param: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON that a client gets."""
        kind = _KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        error = {"message": self.message, "type": kind, "param": self.param or None, "code": self.code or None}
        return {"error": error}


def invalid(message: str, param: str = "", code: str = "") -> Problem:
    """Build the answer to a request that is wrong: 400."""
    return Problem(400, message, code, param)


def too_large(message: str, param: str = "") -> Problem:
    """Build the answer to a request that is above a cap: 413."""
    return Problem(413, message, "too_large", param)
