"""A data set put to an endpoint: many questions at once, each answer kept as soon as it is there."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from relope.errors import OutputError, RelopeError
from relope.extract.allowance import Allowance
from relope.extract.answer_journal import AnswerJournal
from relope.extract.data.flaws import Flaw, input_digest
from relope.extract.data.turns import prompt_text
from relope.extract.endpoint.address import Endpoint
from relope.extract.endpoint.client import Filtered, Manners, Question, Refused, ask
from relope.extract.endpoint.messages import messages_of
from relope.types import Answer, Progress, Sample, no_progress

REFUSALS = 3
"""So many questions in a row from the first that the server refuses: then it is not about the questions."""

_SYNC_S = 1.0
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
    progress: Progress = no_progress,
) -> Asked:
    """Ask every sample once; whatever ends the run, the answers that came in are handed on.

    Args:
        asking: how.
        samples: that have no answer yet.
        journal: where each answer is kept at once.
        keep: is given answers, ``most`` at a time, and the rest at the end.
        most: answers that are held at most before they are handed on.
        n_before: answers of earlier runs: this server does answer.
        progress: told how many are done.
    """
    ranks = {sample.id: rank for rank, sample in enumerate(samples)}
    asked, held = Asked(), list[Pair]()

    def hand_on() -> None:
        keep(sorted(held, key=lambda pair: ranks[pair[0].id]))
        held.clear()

    for done, (sample, said) in enumerate(_answers(asking, samples, journal), 1):
        if isinstance(said, Answer):
            asked.answered += 1
            held.append((sample, said))
        else:
            _note(asked, sample, said, asking.allowance, n_before, len(samples))
        if len(held) >= most:
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


Result = tuple[Sample, Answer | BaseException]
"""A sample with its answer, or with why it has none."""


def _answers(
    asking: Asking, samples: Sequence[Sample], journal: AnswerJournal
) -> Iterator[tuple[Sample, Answer | RelopeError]]:
    """Yield each sample with its answer, or with why it has none, as they come in; then those still in flight."""
    todo: queue.SimpleQueue[Sample] = queue.SimpleQueue()
    for sample in samples:
        todo.put(sample)
    results: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
    manners = Manners(leave=asking.allowance.request, over=lambda: asking.allowance.stopped)
    workers = min(asking.workers, len(samples))
    for number in range(workers):
        arguments = (asking, journal, manners, todo, results)
        threading.Thread(target=_work, args=arguments, name=f"relope-ask-{number}", daemon=True).start()
    synced = time.monotonic()
    try:
        while workers:
            if (result := results.get()) is None:
                workers -= 1
                continue
            sample, said = result
            if not isinstance(said, (Answer, RelopeError)):
                raise said
            yield sample, said
            if time.monotonic() - synced > _SYNC_S:
                journal.sync()
                synced = time.monotonic()
    finally:
        asking.allowance.stop()


def _work(
    asking: Asking,
    journal: AnswerJournal,
    manners: Manners,
    todo: "queue.SimpleQueue[Sample]",
    results: "queue.SimpleQueue[Result | None]",
) -> None:
    """Ask one sample after another, until there is none or the run ends; None says that nothing more will come."""
    try:
        while not asking.allowance.stopped:
            sample = todo.get_nowait()
            try:
                results.put((sample, _one(asking, sample, journal, manners)))
            except BaseException as error:  # noqa: BLE001 (what is no error of ours is raised on the thread that waits)
                results.put((sample, error))
    except queue.Empty:
        pass
    finally:
        results.put(None)


def _one(asking: Asking, sample: Sample, journal: AnswerJournal, manners: Manners) -> Answer:
    """Return the answer to a sample, once it is kept.

    Raises:
        Filtered: its content filter refuses it; that is kept too.
        Refused: the server does not take it.
        RelopeError: the run ends here.
    """
    allowance, digest = asking.allowance, input_digest(sample)
    most = allowance.most_of(sample, prompt_text(sample, asking.text_only), asking.max_new_tokens)
    allowance.reserve(most)
    answer = None
    try:
        answer = ask(asking.endpoint, asking.question(sample), manners)
        journal.add(sample.id, digest, answer)
    except Filtered as error:
        journal.refuse(sample.id, digest, str(error))
        raise
    finally:
        allowance.settle(most, None if answer is None else answer.usage)
    return answer
