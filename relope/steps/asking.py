"""Extraction from a model that runs elsewhere: questions asked at an endpoint, their answers in a store."""

import logging
import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from relope.command_line import command_line, now
from relope.errors import InvalidInputError, OutputError, RelopeError
from relope.extract.allowance import Allowance, Price, allowance_after
from relope.extract.answer_journal import AnswerJournal, journal_path
from relope.extract.answer_store import PART_ANSWERS, seal_answers
from relope.extract.asking import Asked, Asking, Pair, ask_all
from relope.extract.batch_asking import Collected, collect, submit
from relope.extract.data.flaws import Flaw, describe, input_digest, write_skipped
from relope.extract.endpoint.client import KEPT
from relope.extract.grading.thoughts import LENGTH
from relope.extract.thumbnails import thumbnails_of
from relope.spec import ExtractSpec
from relope.steps.grade import accuracy_text, grade_answers
from relope.steps.outcomes import Extracted
from relope.steps.prices import known_cost, price_of
from relope.store import StoreWriter, create_or_open, open_store
from relope.store.made import MadeBy, note_made
from relope.types import Sample, Usage, Watch
from relope.words import counted

if TYPE_CHECKING:
    from relope.extract.endpoint.address import Endpoint
    from relope.extract.extraction import Extraction
    from relope.extract.intake import Intake

log = logging.getLogger(__name__)
WORKERS = 8
"""Questions at a time where nobody says how many."""


@dataclass(frozen=True)
class _Job:
    """A run: what is asked of whom, and where the answers go; the pictures are of answers that are in no part yet."""

    spec: ExtractSpec
    extraction: "Extraction"
    endpoint: "Endpoint"
    writer: StoreWriter
    price: Price | None
    pictures: dict[str, bytes] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.writer.path


def ask_elsewhere(
    spec: ExtractSpec, url: str, extraction: "Extraction", samples: Sequence[Sample], out: Path, watch: Watch
) -> Extracted:
    """Ask a model at an endpoint what its store does not hold yet, then grade its answers.

    Raises:
        OutputError: the server refuses or cannot be reached, or what may be spent is spent; what was answered is kept.
        InvalidInputError: a cap in dollars without prices, or samples that cannot be used.
    """
    from relope.extract.endpoint.address import open_endpoint

    price = _price(spec)  # a mistake is told before anything is written
    if spec.batch:
        open_endpoint(url, spec.model, spec.api_key_env, batches=True).close()
    endpoint = open_endpoint(url, spec.model, spec.api_key_env, spec.timeout)
    for note in extraction.dataset.notes:
        log.warning("%s", note)
    with closing(endpoint):
        return _ask_at(spec, endpoint, price, extraction, samples, out, watch)


def _ask_at(
    spec: ExtractSpec,
    endpoint: "Endpoint",
    price: Price | None,
    extraction: "Extraction",
    samples: Sequence[Sample],
    out: Path,
    watch: Watch,
) -> Extracted:
    from relope.extract.asking_recipe import asking_manifest

    is_new = not out.exists()
    writer = create_or_open(out, asking_manifest(extraction, endpoint.url, spec.max_pixels))
    begun_at = writer.manifest.recorded.get("endpoint")
    if begun_at != endpoint.url:
        log.warning("%s was begun at %s; further answers come from %s", out, begun_at, endpoint.url)
    writer.sweep()
    job = _Job(spec, extraction, endpoint, writer, price)
    intake = _take_in(job, samples, is_new, watch)
    facts, text, failure = _ask(job, intake, watch)
    if facts["computed"]:
        note_made(out, [MadeBy(now(), command_line(spec))])
    if failure is not None:
        if is_new and not facts["computed"]:  # an empty store would stand in the way of a mended recipe
            shutil.rmtree(out)
            if failure.hint == KEPT:
                raise OutputError(
                    str(failure), hint="nothing was answered yet: mend that, and run it again"
                ) from failure
        raise failure
    with open_store(out) as store:
        _tell_empty(store.samples, extraction.max_new_tokens)
        graded = grade_answers(store, extraction.grader, samples)
    facts |= {key: graded.facts[key] for key in ("accuracy", "grader", "unlabelled")}
    text += f", {accuracy_text(graded.facts, ' by ' + graded.facts['grader'])}"
    return Extracted(out, not facts["computed"], text, facts)


def _price(spec: ExtractSpec) -> Price | None:
    """Return what tells the dollars of an answer; None where nobody has named prices."""
    return price_of(known_cost(spec.costs, spec.model, spec.max_usd))


def _take_in(job: _Job, samples: Sequence[Sample], is_new: bool, watch: Watch) -> "Intake":
    from relope.extract.intake import take_in

    extraction, committed = job.extraction, job.writer.committed()
    try:
        with watch("check samples") as progress:
            return take_in(samples, extraction.view, job.writer, committed, strict=extraction.strict, progress=progress)
    except InvalidInputError:
        if is_new and not committed:  # an empty store would stand in the way of a mended recipe
            shutil.rmtree(job.out)
        raise


def _ask(job: _Job, intake: "Intake", watch: Watch) -> tuple[dict[str, Any], str, RelopeError | None]:
    """Ask what has no answer yet and seal all answers; return facts, a line of text, and what ended the run early."""
    writer, committed, begun = job.writer, job.writer.committed(), time.perf_counter()
    missing = [sample for sample in intake.samples if sample.id not in committed]
    journal, whole = AnswerJournal(journal_path(job.out), writer.manifest.recipe_id), False
    try:
        sent, collected = _in_batches(job, intake.samples, missing, journal, watch)
        triage = _triage(missing, journal, collected.refused)
        allowance = _allowance(job, intake.samples, journal, sent)
        _seal(job, triage.answered)
        with watch(f"ask {job.spec.model}") as progress:
            asked = ask_all(
                _asking(job, allowance),
                [] if job.spec.batch else triage.open,
                journal,
                lambda pairs: _seal(job, pairs),
                most=PART_ANSWERS,
                n_before=len(triage.answered) + len(committed),
                taken=lambda sample: _picture(job, sample),
                progress=progress,
            )
        asked.failure = asked.failure or collected.failure
        writer.publish()
        refused = [*triage.refused, *asked.refused]
        write_skipped(job.out, intake.samples, refused)
        whole = asked.failure is None
    finally:
        journal.close(writer.committed() if whole else None)
    if job.spec.strict and refused and asked.failure is None:
        what = f"{len(refused)} samples are refused: {describe(refused)}"
        asked.failure = InvalidInputError(what, hint="drop --strict")
    if refused and not (committed or triage.answered or asked.answered) and asked.failure is None:
        what = f"no question is answered, all {len(refused)} are refused: {describe(refused)}"
        asked.failure = OutputError(what, hint="ask another model, or other questions")
    _tell_excess(allowance)
    facts = _facts(job, intake, triage, asked, allowance) | {"seconds": time.perf_counter() - begun}
    return facts, _text(job, facts, [*intake.flaws, *refused]), asked.failure


def _in_batches(
    job: _Job, samples: Sequence[Sample], missing: Sequence[Sample], journal: AnswerJournal, watch: Watch
) -> tuple[int, Collected]:
    """Wait for the batches of a run that was killed, then for those of this one; return the questions sent now."""
    spec = job.spec
    if not (spec.batch or journal.batches):
        return 0, Collected()
    from relope.extract.endpoint.address import open_endpoint

    endpoint = open_endpoint(str(spec.endpoint), spec.model, spec.api_key_env, spec.timeout, batches=True)
    with closing(endpoint), watch(f"batch {spec.model}") as progress:
        waiting = _asking(replace(job, endpoint=endpoint), Allowance())
        earlier = collect(waiting, missing, journal, progress)
        if not spec.batch:
            return 0, replace(earlier, failure=None)  # what it lost is asked now
        triage = _triage(missing, journal, earlier.refused)
        allowance = _allowance(job, samples, journal, 0)
        spent = submit(replace(waiting, allowance=allowance), triage.open, journal)
        collected = collect(waiting, missing, journal, progress)
        refused = [*earlier.refused, *collected.refused]
        return allowance.requests, replace(collected, refused=refused, failure=collected.failure or spent)


@dataclass(frozen=True)
class _Triage:
    """Samples that are in no part yet: with an answer, refused, and those that are still to be asked."""

    answered: list[Pair]
    refused: list[Flaw]
    open: list[Sample]


def _triage(missing: Sequence[Sample], journal: AnswerJournal, refused: Sequence[Flaw]) -> _Triage:
    """Sort samples by what is known of them already; what asks something else now is asked anew.

    Args:
        missing: samples that are in no part.
        journal: answers of batches, and of a run that was killed.
        refused: samples that a batch has just refused.
    """
    triage = _Triage([], list(refused), [])
    gone = {flaw.id for flaw in refused}
    for sample in missing:
        if sample.id in gone:
            continue
        digest = input_digest(sample)
        asked, answer = journal.answers.get(sample.id, ("", None))
        refused_at, reason = journal.refused.get(sample.id, ("", ""))
        if answer is not None and asked == digest:
            triage.answered.append((sample, answer))
        elif refused_at == digest:
            triage.refused.append(Flaw(sample.id, sample.split, reason))
        else:
            triage.open.append(sample)
    return triage


def _allowance(job: _Job, samples: Sequence[Sample], journal: AnswerJournal, sent: int) -> Allowance:
    """Return what may be spent, less what the store's questions have cost so far and the requests that were sent.

    Answers count whose samples are not asked about now, such as those of another split.
    """
    spec = job.spec
    if job.writer.sealed():
        job.writer.publish()  # what a run has sealed that was killed is spent too
    with open_store(job.out) as store:
        answered = _usages(store.samples)
    waiting = {name: answer.usage for name, (_, answer) in journal.answers.items() if name not in answered}
    answered |= waiting
    allowance = allowance_after(
        answered.values(), job.price, spec.max_usd, spec.max_requests, sent, bills=journal.bills
    )
    asking = _asking(job, allowance)
    for sample in samples:
        if sample.id in answered:
            allowance.learn(asking.estimate(sample), answered[sample.id])
    return allowance


def _usages(samples: pl.DataFrame) -> dict[str, Usage]:
    columns = ("id", "prompt_tokens", "completion_tokens", "cached_tokens")
    rows = samples.select(columns).rows() if set(columns) <= set(samples.columns) else []
    return {name: Usage(*counts) for name, *counts in rows}


def _asking(job: _Job, allowance: Allowance) -> Asking:
    spec, extraction = job.spec, job.extraction
    return Asking(
        job.endpoint,
        extraction.view.text_only,
        spec.max_pixels,
        extraction.max_new_tokens,
        extraction.stops,
        spec.workers or WORKERS,
        allowance,
    )


def _seal(job: _Job, pairs: Sequence[Pair]) -> None:
    seal_answers(job.writer, pairs, thumbnails=job.spec.thumbnails, pictures=job.pictures)


def _picture(job: _Job, sample: Sample) -> None:
    """Make the thumbnails of a sample that was answered, while others are waited for."""
    if job.spec.thumbnails:
        job.pictures.update(thumbnails_of([sample], set(job.pictures)))


def _tell_empty(samples: pl.DataFrame, max_new_tokens: int) -> None:
    """Warn of answers that say nothing since they were cut off: a model that thinks has spent its tokens on that."""
    n = samples.filter((pl.col("response") == "") & (pl.col("finish_reason") == LENGTH)).height
    if n:
        what = f"{n:,} of {counted(samples.height, 'answer')} say nothing: cut off at {max_new_tokens} tokens"
        log.warning("%s, which a model that thinks may need before its answer (max_new_tokens)", what)


def _tell_excess(allowance: Allowance) -> None:
    """Warn where estimates were too low for a cap to hold."""
    if allowance.max_usd is not None and allowance.spent > allowance.max_usd:
        what = f"answers have cost ${allowance.spent:.4f}, and ${allowance.max_usd:g} were allowed"
        log.warning("%s: the server has counted more tokens than were taken to be in a question", what)


def _facts(job: _Job, intake: "Intake", triage: _Triage, asked: Asked, allowance: Allowance) -> dict[str, Any]:
    flaws = [*intake.flaws, *triage.refused, *asked.refused]
    return {
        "samples": len(intake.samples) - len(triage.refused) - len(asked.refused),
        "computed": asked.answered + len(triage.answered),
        "requests": allowance.requests,
        "dollars": allowance.dollars,
        "unanswered": allowance.unanswered,
        "dollars_in_doubt": allowance.doubtful_dollars,
        "refused": len(triage.refused) + len(asked.refused),
        "skipped": [vars(flaw) for flaw in flaws],
        "notes": list(job.extraction.dataset.notes),
    }


def _text(job: _Job, facts: dict[str, Any], flaws: Sequence[Flaw]) -> str:
    n, seconds = facts["computed"], facts["seconds"]
    done = f"{counted(n, 'sample')} in {seconds:.1f} s ({n / seconds:.0f}/s)"
    text = done if n else f"{counted(facts['samples'], 'sample')} up to date"
    dollars = "" if facts["dollars"] is None else f", ${facts['dollars']:.4f} in all"
    if facts["dollars_in_doubt"]:
        requests = counted(facts["unanswered"], "request")
        dollars += f", and up to ${facts['dollars_in_doubt']:.4f} for {requests} without an answer"
    skipped = f"; {counted(len(flaws), 'sample')} skipped ({describe(flaws)})" if flaws else ""
    return f"{text} → {job.out}{dollars}{skipped}"
