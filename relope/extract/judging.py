"""Answers judged by a model at an endpoint: each case is asked once, whatever becomes of the run.

A verdict is kept under the digest of what decides it: the model, the version of the prompt, and what the model is
shown (question, options, gold answers, answer). Cases that are shown alike are one.
"""

import secrets
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from relope.errors import OutputError, RelopeError
from relope.extract.allowance import Allowance, Price, allowance_after, estimate
from relope.extract.answer_journal import AnswerJournal
from relope.extract.endpoint.address import Endpoint
from relope.extract.endpoint.client import KEPT, Question, Refused
from relope.extract.grading.case import Asking, Case
from relope.extract.workers import Put, WorkerPool, answers_at
from relope.provenance import digest
from relope.redact import redacted
from relope.types import Answer, Progress, no_progress
from relope.words import counted

RIGHT, WRONG, UNPARSED = "agrees", "differs", "unparsed"
"""What is kept of a reply; behind the last stands how it began."""

PATIENCE = 5
"""So many replies without one verdict among them: then it is not about the answers."""

MOST_UNPARSED = 0.2
"""A larger share of replies that are no verdict is no judgement of a data set. Choice."""

_NONCE_BYTES = 8
_SAID = 160


@dataclass(frozen=True)
class Judge:
    """A model that judges.

    Attributes:
        name: ``judge:MODEL@version`` of its grades.
        asking: the grader's file: what the model is shown, and how its reply is read.
        endpoint: where it is asked.
        cache: the file of verdicts.
        workers: cases at a time.
        price: of a verdict; None where nobody has named one.
        max_usd: cap on all verdicts in the cache together.
        max_requests: cap on those of a run.
    """

    name: str
    asking: Asking
    endpoint: Endpoint
    cache: Path
    workers: int
    price: Price | None = None
    max_usd: float | None = None
    max_requests: int | None = None


@dataclass(frozen=True)
class Ruling:
    """What the model makes of a case.

    Attributes:
        right: whether the answer agrees with the gold; None where there is no verdict.
        why: there is none.
        answered_by: what the server calls the model.
    """

    right: bool | None
    why: str = ""
    answered_by: str = ""


@dataclass(frozen=True)
class Judged:
    """What came of the cases.

    Attributes:
        rulings: one a case, in their order; None where there was nothing to ask.
        requests: that this run has sent.
        dollars: that all verdicts in the cache have cost; None without prices, or where their tokens are not told.
        dollars_in_doubt: that requests without an answer may have cost besides; None without prices.
    """

    rulings: list[Ruling | None]
    requests: int
    dollars: float | None
    dollars_in_doubt: float | None


@dataclass
class _Docket:
    """Digest → what is shown, and → what the model made of it; and what is no verdict of that.

    Several threads take up rulings; the fault is why too few of them are verdicts, which ends the run.
    """

    shown: dict[str, dict[str, Any]]
    ruled: dict[str, Ruling] = field(default_factory=dict)
    unread: list[Ruling] = field(default_factory=list)
    fault: OutputError | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take_up(self, judge: Judge, rulings: Mapping[str, Ruling]) -> bool:
        """Take up what the model made of cases; return whether the run may go on."""
        with self.lock:
            self.ruled.update(rulings)
            self.unread += [ruling for ruling in rulings.values() if ruling.right is None]
            self.fault = self.fault or _fault(judge, self)
            return self.fault is None


def judge_all(judge: Judge, cases: Sequence[Case], progress: Progress = no_progress) -> Judged:
    """Return what the model makes of every case; what it has judged before is not asked again.

    Raises:
        OutputError: the server refuses or cannot be reached, what may be spent is spent, or too few replies are
            verdicts; every verdict that came in is kept.
        InvalidInputError: the cache is damaged.
    """
    asked = [judge.asking.shown(case) for case in cases]
    keys = [digest([judge.name, shown]) if shown else "" for shown in asked]
    docket = _Docket({key: shown for key, shown in zip(keys, asked, strict=True) if key})
    journal = AnswerJournal(judge.cache, judge.name)
    try:
        docket.take_up(judge, {key: ruling for key, ruling in _earlier(journal).items() if key in docket.shown})
        allowance = _allowance(judge, journal)
        _rule(judge, docket, journal, allowance, progress)
    except OutputError as error:
        if docket.ruled or error.hint != KEPT:
            raise
        raise OutputError(str(error), hint="nothing was judged yet: mend that, and run it again") from error
    finally:
        journal.close()
        with suppress(OSError):
            judge.cache.parent.rmdir()  # where nothing is kept in it
    rulings = [docket.ruled.get(key) if key else None for key in keys]
    return Judged(rulings, allowance.requests, allowance.dollars, allowance.doubtful_dollars)


def _earlier(journal: AnswerJournal) -> dict[str, Ruling]:
    """Return what earlier runs have left."""
    refused = {key: Ruling(None, reason) for key, (_, reason) in journal.refused.items()}
    return refused | {key: _ruling(answer) for key, (_, answer) in journal.answers.items()}


def _allowance(judge: Judge, journal: AnswerJournal) -> Allowance:
    answered = [answer.usage for _, answer in journal.answers.values()]
    return allowance_after(answered, judge.price, judge.max_usd, judge.max_requests, bills=journal.bills)


def _rule(judge: Judge, docket: _Docket, journal: AnswerJournal, allowance: Allowance, progress: Progress) -> None:
    """Ask what has no ruling yet.

    Raises:
        RelopeError: what ended the run; what is in flight then still comes in.
    """
    if docket.fault is not None:
        raise docket.fault
    failure: RelopeError | None = None
    still_open = [key for key in docket.shown if key not in docket.ruled]
    pool = WorkerPool(judge.endpoint, journal, allowance, judge.workers)
    outcomes = answers_at(pool, still_open, lambda key: _put(judge, docket, allowance, key))
    for done, (key, outcome) in enumerate(outcomes, 1):
        if isinstance(outcome, Refused):
            if not docket.take_up(judge, {key: Ruling(None, str(outcome))}):
                allowance.stop()
        elif isinstance(outcome, RelopeError):
            failure = failure or outcome
        progress(done, len(still_open))
    if (failure := docket.fault or failure) is not None:
        raise failure


def _put(judge: Judge, docket: _Docket, allowance: Allowance, key: str) -> Put:
    nonce = secrets.token_hex(_NONCE_BYTES)
    messages = judge.asking.messages(docket.shown[key], nonce)
    tokens = estimate("".join(message["content"] for message in messages), judge.asking.MAX_TOKENS)

    def kept(answer: Answer) -> Answer:
        """Keep the verdict, which no other request would understand by its nonce."""
        right = judge.asking.verdict(answer.text, nonce)
        word = f"{UNPARSED}: {' '.join(redacted(answer.text).split())[:_SAID]}"
        word = word if right is None else RIGHT if right else WRONG
        answer = replace(answer, text=word, logprobs=None, entropies=None)
        if not docket.take_up(judge, {key: _ruling(answer)}):
            allowance.stop()  # here, before this worker asks on in vain
        return answer

    return Put(key, key, Question(messages, judge.asking.MAX_TOKENS), tokens, kept)


def _ruling(answer: Answer) -> Ruling:
    right = {RIGHT: True, WRONG: False}.get(answer.text)
    said = answer.text.removeprefix(f"{UNPARSED}: ")
    return Ruling(right, "" if right is not None else f"it said {said!r}", answer.answered_by)


def _fault(judge: Judge, docket: _Docket) -> OutputError | None:
    """Return what is wrong with rulings of which too few are verdicts: what they say of a data set would be wrong."""
    unread, n = docket.unread, len(docket.ruled)
    if unread and len(unread) == n >= min(PATIENCE, len(docket.shown)):
        what = f"none of {counted(n, 'reply', 'replies')} of {judge.endpoint.model} is a verdict"
    elif n == len(docket.shown) and len(unread) > MOST_UNPARSED * n:
        what = f"{len(unread)} of {n} replies of {judge.endpoint.model} are no verdicts"
    else:
        return None
    return OutputError(
        f"{what}, and nothing was graded; the first: {unread[0].why}",
        hint=f"take another --judge-model; to ask this one again, remove {judge.cache}",
    )
