"""A data set put to an endpoint in batches: uploaded, waited for, fetched; a run that is killed goes on waiting."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep

from relope.errors import OutputError, RelopeError
from relope.extract.allowance import Bill
from relope.extract.answer_journal import AnswerJournal
from relope.extract.asking import Asking
from relope.extract.data.flaws import Flaw, input_digest
from relope.extract.endpoint.batches import answers_in, begin, fetch, line_of, progress_of, upload
from relope.extract.endpoint.client import KEPT, Filtered, Manners, Refused
from relope.types import Answer, Progress, Sample

POLL_S = 30.0
"""Seconds between two looks at a batch."""

MOST_QUESTIONS = 5_000
MOST_BYTES = 150 << 20
"""Of one input file; providers take 50,000 questions and 200 MB."""


@dataclass
class Collected:
    """What batches came to.

    Attributes:
        refused: the samples that the server does not answer, and why.
        lost: id → why it has no answer although it is not refused.
        failure: what ended the run before its end; None where nothing did.
    """

    refused: list[Flaw] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    failure: RelopeError | None = None


def submit(asking: Asking, samples: Sequence[Sample], journal: AnswerJournal) -> RelopeError | None:
    """Upload questions and begin their batches, as far as the allowance goes; return what it says where it ends.

    What is sent is in the journal before it could cost anything.
    """
    manners = Manners()
    rest, spent = list(samples), None
    while rest and spent is None:
        with tempfile.NamedTemporaryFile(suffix=".jsonl", dir=journal.path.parent) as file:
            taken: list[Sample] = []
            while rest and len(taken) < MOST_QUESTIONS and file.tell() < MOST_BYTES:
                if (spent := _allowed(asking, rest[0])) is not None:
                    break
                sample = rest.pop(0)
                file.write(line_of(asking.endpoint, str(len(taken)), asking.question(sample), manners))
                taken.append(sample)
            file.flush()
            if taken:
                uploaded = upload(asking.endpoint, Path(file.name), manners)
                journal.submit(uploaded, [(sample.id, input_digest(sample)) for sample in taken])
                journal.begun(uploaded, begin(asking.endpoint, uploaded, manners))
    return spent


def _allowed(asking: Asking, sample: Sample) -> RelopeError | None:
    try:
        allowance = asking.allowance
        allowance.request()
        allowance.reserve(allowance.dollars_of(allowance.at_most(asking.estimate(sample))), wait=False)
    except OutputError as error:
        return error
    return None


def collect(asking: Asking, samples: Sequence[Sample], journal: AnswerJournal, progress: Progress) -> Collected:
    """Wait for every batch that the journal knows, and keep its answers there.

    Args:
        asking: how.
        samples: that may be in a batch.
        journal: which batches there are; answers go into it.
        progress: told the questions answered and asked.

    Raises:
        OutputError: the server cannot be reached, or a batch failed; the journal still knows the others.
    """
    manners, collected = Manners(), Collected()
    by_id = {sample.id: sample for sample in samples}
    while journal.batches:
        done, total = 0, sum(len(batch.asked) for batch in journal.batches.values())
        for file, batch in list(journal.batches.items()):
            if not batch.name:  # killed between the upload and the beginning
                journal.begun(file, begin(asking.endpoint, file, manners))
            state = progress_of(asking.endpoint, journal.batches[file].name, manners)
            done += state.done
            if not state.has_ended:
                continue
            told = [_take(asking, output, batch.asked, by_id, journal, collected) for output in state.files]
            silent = {name for name, _ in batch.asked}.difference(*told)
            if state.files:
                collected.lost |= dict.fromkeys(sorted(silent), f"its batch is {state.status}")
            elif collected.failure is None:
                why = state.reason or f"it is {state.status}, without answers"
                collected.failure = OutputError(
                    f"{asking.endpoint.url} failed the batch {journal.batches[file].name}: {why}", hint=KEPT
                )
            journal.over(file)
        progress(done, total)
        if journal.batches:
            sleep(POLL_S)
    _tell_lost(collected)
    return collected


def _take(
    asking: Asking,
    file: str,
    asked: Sequence[tuple[str, str]],
    by_id: dict[str, Sample],
    journal: AnswerJournal,
    collected: Collected,
) -> set[str]:
    """Keep what an output file says, and return of whom; of a run that was killed here the same file is read again."""
    told = set[str]()
    with tempfile.TemporaryDirectory(dir=journal.path.parent) as folder:
        path = Path(folder) / "output.jsonl"
        fetch(asking.endpoint, file, path, Manners())
        for number, outcome in answers_in(asking.endpoint, path):
            name, digest = asked[int(number)] if number.isdecimal() and int(number) < len(asked) else ("", "")
            told.add(name)
            known = (journal.answers.get(name), journal.refused.get(name))
            if not name or any(each is not None and each[0] == digest for each in known):
                continue
            if isinstance(outcome, Answer):
                journal.add(name, digest, outcome)
                journal.answers[name] = digest, outcome
            elif isinstance(outcome, Filtered):
                if outcome.usage is not None:
                    journal.bill(Bill(outcome.usage, certain=True))
                journal.refuse(name, digest, str(outcome))
                journal.refused[name] = digest, str(outcome)
            elif isinstance(outcome, Refused) and name in by_id:
                collected.refused.append(Flaw(name, by_id[name].split, str(outcome)))
            else:
                collected.lost[name] = str(outcome)
    journal.sync()
    return told


def _tell_lost(collected: Collected) -> None:
    if collected.lost and collected.failure is None:
        name, why = next(iter(collected.lost.items()))
        told = f"{len(collected.lost)} questions of the batch have no answer (first: {name}: {why})"
        collected.failure = OutputError(told, hint="what was answered is kept; the same command asks the others again")
