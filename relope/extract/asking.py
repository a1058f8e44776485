"""A data set put to an endpoint: many questions at once, each answer kept as soon as it is there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from relope.errors import OutputError, RelopeError
from relope.extract.allowance import Allowance, estimate
from relope.extract.answer_journal import AnswerJournal
from relope.extract.data.flaws import Flaw, input_digest
from relope.extract.data.turns import asked_turns
from relope.extract.endpoint.address import Endpoint
from relope.extract.endpoint.client import REFUSALS, Filtered, Question, Refused
from relope.extract.endpoint.messages import messages_of
from relope.extract.workers import Put, WorkerPool, answers_at
from relope.types import Answer, Progress, Sample, Usage, no_progress

Pair = tuple[Sample, Answer]
Keep = Callable[[Sequence[Pair]], None]
"""Takes the answers that have come in, in the order of the samples."""


@dataclass(frozen=True)
class Asking:
    """How questions are put to an endpoint.

    Attributes:
        endpoint: that answers.
        text_only: captions stand in for images.
        max_pixels: larger images are made smaller; None sends them as they are.
        max_new_tokens: longest answer.
        stops: texts that end an answer.
        workers: questions at a time.
        allowance: what may be spent.
    """

    endpoint: Endpoint
    text_only: bool
    max_pixels: int | None
    max_new_tokens: int
    stops: tuple[str, ...]
    workers: int
    allowance: Allowance

    def question(self, sample: Sample) -> Question:
        """Return what is asked of a sample."""
        messages = messages_of(sample, self.text_only, self.max_pixels)
        return Question(messages, self.max_new_tokens, self.stops, logprobs=True)

    def put(self, sample: Sample) -> Put:
        """Return a sample's question, with the tokens that it may take."""
        return Put(sample.id, input_digest(sample), self.question(sample), self.estimate(sample))

    def estimate(self, sample: Sample) -> Usage:
        """Return the tokens that a sample's question may take: those of every turn, its images and its answer."""
        said = "\n".join(text for _, text in asked_turns(sample, self.text_only))
        return estimate(said, self.max_new_tokens, 0 if self.text_only else len(sample.images))


@dataclass
class Asked:
    """What came of it.

    Attributes:
        answered: how many answers came in.
        refused: the samples that the server does not answer, and why.
        failure: what ended the run before its end; None where nothing did.
    """

    answered: int = 0
    refused: list[Flaw] = field(default_factory=list)
    failure: RelopeError | None = None

    def fail(self, error: RelopeError, allowance: Allowance) -> None:
        """End the run: what is in flight still comes in, nothing more is asked. The first failure is told."""
        self.failure = self.failure or error
        allowance.stop()


def ask_all(
    asking: Asking,
    samples: Sequence[Sample],
    journal: AnswerJournal,
    keep: Keep,
    *,
    most: int,
    n_before: int = 0,
    taken: Callable[[Sample], None] = lambda sample: None,
    progress: Progress = no_progress,
) -> Asked:
    """Ask every sample once; whatever ends the run, the answers that came in are handed on.

    Args:
        asking: how.
        samples: that have no answer yet.
        journal: where each answer is kept at once.
        keep: is given answers, ``most`` at a time, and the rest at the end.
        most: answers that wait unsealed at most before they are handed on.
        n_before: answers of earlier runs: this server does answer.
        taken: told each sample that was answered, at once: what it does is done while others are waited for.
        progress: told how many are done.
    """
    ranks = {sample.id: rank for rank, sample in enumerate(samples)}
    asked, unsealed = Asked(), list[Pair]()

    def hand_on() -> None:
        keep(sorted(unsealed, key=lambda pair: ranks[pair[0].id]))
        unsealed.clear()

    pool = WorkerPool(asking.endpoint, journal, asking.allowance, asking.workers)
    for done, (sample, outcome) in enumerate(answers_at(pool, samples, asking.put), 1):
        if isinstance(outcome, Answer):
            asked.answered += 1
            unsealed.append((sample, outcome))
            taken(sample)
        else:
            _note(asked, sample, outcome, asking.allowance, n_before, len(samples))
        if len(unsealed) >= most:
            hand_on()
        progress(done, len(samples))
    hand_on()
    return asked


def _note(asked: Asked, sample: Sample, error: RelopeError, allowance: Allowance, n_before: int, n: int) -> None:
    """Note why a sample has no answer, and end the run where that is about more than this sample."""
    if not isinstance(error, Refused):
        asked.fail(error, allowance)
        return
    asked.refused.append(Flaw(sample.id, sample.split, str(error)))
    if not isinstance(error, Filtered) and _refuses_all(asked, n_before, n):
        asked.fail(OutputError(f"{error}; it refused every question so far", hint=error.hint), allowance)


def _refuses_all(asked: Asked, n_before: int, n: int) -> bool:
    return not (n_before or asked.answered) and len(asked.refused) >= min(REFUSALS, n)
