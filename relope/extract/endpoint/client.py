"""One question to an endpoint: asked again where the server is busy, its answer read with suspicion.

Layouts: OpenAI's ``/v1/chat/completions`` (github.com/openai/openai-python, ``types/chat/chat_completion.py``);
vLLM, Ollama, LiteLLM and Azure answer alike.
"""

import json
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from relope.errors import OutputError
from relope.extract.endpoint.address import Endpoint
from relope.extract.endpoint.reading import answer_of
from relope.redact import redacted
from relope.retry_after import asked_wait_s
from relope.types import Answer, Usage

if TYPE_CHECKING:
    import openai

log = logging.getLogger(__name__)
ATTEMPTS = 6
LONGEST_WAIT_S = 300.0
"""A server that wants longer is not waited for."""

REFUSALS = 3
"""So many questions in a row from the first that a server refuses: then it is not about the questions."""

REFUSED = (400, 413, 415, 422)
"""Statuses of a server that does not take a request."""

TOP_LOGPROBS = 5
"""Alternatives of each token that are asked for. Choice: some servers give no more."""

_AGAIN = (408, 409, 429, 500, 502, 503, 504, 529)
_NO_MORE_MONEY = ("insufficient_quota", "billing_hard_limit_reached")
_FILTERS = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")
_SHOWN = 200
_SLICE_S = 0.25
Sent = TypeVar("Sent")
KEPT = "what was answered is kept; the same command goes on from there"
"""The hint of everything that ends a run."""


class Refused(OutputError):
    """The server does not take a request: perhaps this one alone, perhaps any."""


class Filtered(Refused):
    """The server's content filter refuses a question, or its answer.

    Args:
        message: as of every error.
        usage: what an answer took that was withheld, which is paid for; None where a question was refused.
    """

    def __init__(self, message: str, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.usage = usage


@dataclass(frozen=True)
class Toll:
    """What is done about the dollars of a question.

    Attributes:
        leave: called before each request; what it raises ends the question.
        unanswered: called after each that was sent and got no answer, which may be paid for all the same.
    """

    leave: Callable[[], None] = lambda: None
    unanswered: Callable[[], None] = lambda: None


NO_TOLL = Toll()


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        messages: roles and contents, as `relope.extract.endpoint.messages` makes them.
        max_tokens: longest answer.
        stops: texts that end an answer.
        logprobs: whether those of its tokens are wanted.
    """

    messages: Sequence[Mapping[str, Any]]
    max_tokens: int
    stops: tuple[str, ...] = ()
    logprobs: bool = False


@dataclass
class Manners:
    """What was learned of a server while it was asked: kept for all who ask it at once.

    Attributes:
        says_completion: whether it wants ``max_completion_tokens`` in place of ``max_tokens``.
        tells_logprobs: False once it has refused to.
        not_before: time (monotonic) until which it wants to be left alone.
        told: whether somebody was told that it is waited for.
        over: whether nobody waits for answers any more; a pause then ends at once.
    """

    says_completion: bool = False
    tells_logprobs: bool = True
    not_before: float = 0.0
    told: bool = False
    over: Callable[[], bool] = lambda: False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, seconds: float) -> None:
        """Let nobody ask for so long."""
        with self.lock:
            self.not_before = max(self.not_before, time.monotonic() + seconds)

    def wait(self) -> None:
        """Wait until the server may be asked."""
        if (left := self.not_before - time.monotonic()) > 0:
            self.pause(left)

    def pause(self, seconds: float) -> None:
        """Wait so long, or until it is over."""
        for _ in range(math.ceil(seconds / _SLICE_S)):
            if self.over():
                return
            time.sleep(min(_SLICE_S, seconds))

    def tell(self, what: str) -> None:
        """Tell once why answers take so long."""
        with self.lock:
            told, self.told = self.told, True
        if not told:
            log.warning("%s; further waits are not told", what)

    @property
    def known(self) -> tuple[bool, bool]:
        """Return what a request is made by."""
        return self.says_completion, self.tells_logprobs

    def learn(self, said: str, known: tuple[bool, bool]) -> bool:
        """Take up what a refusal says of a parameter; return whether asking again could go better.

        Args:
            said: by the server.
            known: when the refused request was made; another thread may have learned the same since.
        """
        said_completion, told_logprobs = known
        if not said_completion and "max_completion_tokens" in said:
            self.says_completion = True
            return True
        if told_logprobs and "logprobs" in said:
            self.tells_logprobs = False
            return True
        return False


def body_of(endpoint: Endpoint, question: Question, manners: Manners) -> dict[str, Any]:
    """Return the body of a request; greedy, as every answer of ours is."""
    longest = "max_completion_tokens" if manners.says_completion else "max_tokens"
    body: dict[str, Any] = {"model": endpoint.model, "messages": list(question.messages), longest: question.max_tokens}
    body["temperature"] = 0
    if question.stops:
        body["stop"] = list(question.stops)
    if question.logprobs and manners.tells_logprobs:
        body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    return body


def ask(endpoint: Endpoint, question: Question, manners: Manners | None = None, toll: Toll = NO_TOLL) -> Answer:
    """Return the answer to a question; a busy server is asked again, a few times, after the pause that it wants.

    Raises:
        Filtered: its content filter refuses this question or answer.
        Refused: the server does not take this question.
        OutputError: the server cannot be reached, refuses, or says something that is no answer.
    """
    manners = manners or Manners()
    said, seconds = _complete(endpoint, question, manners, toll)
    try:
        document = json.loads(said)
        answer = answer_of(document, seconds)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        start = _line(said[: 4 * _SHOWN].decode("utf-8", "replace"), endpoint)
        raise OutputError(f"{endpoint.url} sent no chat completion: {start!r}", hint=KEPT) from error
    if (withheld := withheld_error(endpoint, answer)) is not None:
        raise withheld
    return answer


def _complete(endpoint: Endpoint, question: Question, manners: Manners, toll: Toll) -> tuple[bytes, float]:
    """Return the body of a completion, and the seconds that it took."""
    import openai

    def send() -> tuple[bytes, float]:
        begun = time.perf_counter()
        # Past the client: its making of requests and reading of answers takes as long as all the rest.
        content = json.dumps(body_of(endpoint, question, manners)).encode()
        response = endpoint.post(content)
        if not response.is_success:
            raise openai.APIStatusError("", response=response, body=None)
        return response.content, time.perf_counter() - begun

    return patiently(endpoint, manners, send, toll)


def patiently(endpoint: Endpoint, manners: Manners, send: Callable[[], Sent], toll: Toll = NO_TOLL) -> Sent:
    """Return what a request gives, sent again a few times where the server is busy, after the pause that it wants.

    Raises:
        Refused: the server does not take it.
        OutputError: the server cannot be reached, or refuses.
    """
    import httpx2
    import openai

    attempt = 0
    while True:
        attempt += 1
        manners.wait()
        toll.leave()
        known = manners.known
        try:
            return send()
        except openai.APIStatusError as error:
            if error.status_code == 400 and manners.learn(_body_text(error), known):
                attempt -= 1
                continue
            _pause_or_raise(endpoint, error, attempt, manners)
        except (openai.APIConnectionError, httpx2.HTTPError, OSError, ValueError) as error:
            if _was_sent(error):
                toll.unanswered()
            _pause_or_raise_unreachable(endpoint, error, attempt, manners)


def withheld_error(endpoint: Endpoint, answer: Answer) -> Filtered | None:
    """Return the error for an answer that the server's content filter has withheld; None where it has not."""
    if answer.finish_reason != "content_filter":
        return None
    return Filtered(f"{endpoint.url} withheld the answer: content_filter", answer.usage)


def is_filtered(said: str) -> bool:
    """Return whether it is a content filter that has said so."""
    return any(name in said for name in _FILTERS)


def _pause_or_raise(endpoint: Endpoint, error: "openai.APIStatusError", attempt: int, manners: Manners) -> None:
    status, said = error.status_code, _body_text(error)
    reason = _line(f"{endpoint.url} answered {status} {error.response.reason_phrase}{_told(error, said)}", endpoint)
    if status in REFUSED:
        raise (Filtered if is_filtered(said) else Refused)(reason) from error
    if status not in _AGAIN or attempt >= ATTEMPTS or any(name in said for name in _NO_MORE_MONEY):
        raise OutputError(f"{reason}{_tries(attempt)}", hint=KEPT) from error
    asked = asked_wait_s(str(error.response.headers.get("retry-after", "")))
    if asked is not None and asked > LONGEST_WAIT_S:
        raise OutputError(f"{reason}; it asks to wait for {asked:,.0f} s", hint=KEPT) from error
    wait = _own_wait(attempt) if asked is None else asked
    manners.tell(f"{reason}; it is asked again in {wait:.0f} s")
    if status == 429 and asked is not None:
        manners.hold(wait)
    else:
        manners.pause(wait)


def _pause_or_raise_unreachable(endpoint: Endpoint, error: Exception, attempt: int, manners: Manners) -> None:
    import httpx2

    from relope.extract.endpoint.transport import TooLong

    cause = error.__cause__ or error
    what = _line(str(cause) or type(cause).__name__, endpoint)
    if isinstance(cause, TooLong):
        raise OutputError(f"{endpoint.url} sent no chat completion: {what}", hint=KEPT) from error
    through = f" through the proxy {endpoint.proxy}" if endpoint.proxy else ""
    reason = redacted(f"{endpoint.url} cannot be reached{through}: {what}")
    if any(isinstance(each, httpx2.ReadTimeout | httpx2.WriteTimeout) for each in (error, cause)):
        reason = f"{endpoint.url} has not answered within {endpoint.timeout_s:g} s"
    if attempt >= ATTEMPTS:
        raise OutputError(f"{reason}{_tries(attempt)}", hint=KEPT) from error
    wait = _own_wait(attempt)
    manners.tell(f"{reason}; it is asked again in {wait:.0f} s")
    manners.pause(wait)


def _was_sent(error: Exception) -> bool:
    """Return whether a request was under way when its connection failed, so that the server may have answered it."""
    import httpx2

    from relope.extract.endpoint.transport import TooLong

    answering = httpx2.ReadTimeout | httpx2.ReadError | httpx2.RemoteProtocolError | TooLong
    return isinstance(error, answering) or isinstance(error.__cause__, answering)


def _tries(attempt: int) -> str:
    return f" (asked {attempt} times)" if attempt > 1 else ""


def _told(error: "openai.APIStatusError", said: str) -> str:
    """Return what a response says is wrong: OpenAI's ``error.message`` and ``code``, where it leads, or its body."""
    if (target := error.response.headers.get("location")) and error.response.is_redirect:
        return f", which leads to {target} and is not followed"
    try:
        fault = json.loads(said)["error"]
        said = f"{fault['message']} ({fault['code']})" if fault.get("code") else str(fault["message"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    return f": {said}" if said.strip() else ""


def _own_wait(attempt: int) -> float:
    """Return seconds to wait: twice as long each time, and not all who wait at the same moment."""
    return float(2.0 ** (attempt - 1) * random.uniform(0.75, 1.25))


def _body_text(error: "openai.APIStatusError") -> str:
    return error.response.content[: 64 << 10].decode("utf-8", "replace")


def _line(text: str, endpoint: Endpoint) -> str:
    """Return the beginning of what a server said, as one line; a key is taken out before it could be cut in two."""
    return " ".join(redacted(text).split())[: _SHOWN + len(endpoint.url)]
