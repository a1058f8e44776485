"""The step ``import``: results that other tools have made, as stores of answers only."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relope import registry
from relope.command_line import command_line, now
from relope.errors import InvalidInputError, unknown
from relope.spec import ImportSpec
from relope.steps.outcomes import Imported
from relope.steps.step import Step
from relope.store import ActivationStore, check_output, open_store
from relope.store.labels import IMPORTED
from relope.store.made import MadeBy, note_made
from relope.types import Watch
from relope.words import counted, first_of

if TYPE_CHECKING:
    from relope.extract.importing.matching import Matches
    from relope.extract.importing.record import Record

log = logging.getLogger(__name__)
_SHOWN = 3


@dataclass(frozen=True)
class _Plan:
    """What one store is to hold: decided for all stores before the first is written."""

    model: str
    out: Path
    rows: list[dict[str, Any]]
    records: "list[Record]"
    matches: "Matches | None"


def output(spec: ImportSpec) -> Path:
    """Return the store, or the folder of the stores of several models."""
    return spec.out


def run(spec: ImportSpec, watch: Watch) -> Imported:
    """Read what other tools have written, find the samples that it is about, and keep it as stores of answers."""
    from relope.extract.importing.formats import read_files

    if spec.format:
        registry.load("importers", spec.format)  # a misspelt name is told before anything is read
    small = None if spec.store is None else open_store(spec.store)
    with watch("read files") as progress:
        progress(0, 1)
        reading, formats = read_files([Path(name) for name in spec.files], spec.format)
        progress(1, 1)
    for note in reading.notes:
        log.warning("%s", note)
    failed = [record for record in reading.records if record.failed]
    answered = [record for record in reading.records if not record.failed]
    if not answered:
        raise InvalidInputError(f"none of {counted(len(failed), 'sample')} has an answer: {_first_failed(failed)}")
    plans = _plans(spec, answered, small)
    for plan in plans:
        check_output(plan.out)
    done = [_write(spec, plan, small, formats) for plan in plans]
    without = f"{counted(len(failed), 'sample')} without an answer left out ({_first_failed(failed)})" if failed else ""
    text = "\n".join([*(text for _, _, text in done), *([without] if without else [])])
    facts = {
        "formats": formats,
        "stores": [facts for _, facts, _ in done],
        "failed": [{"id": record.id, "where": record.where, "reason": record.failed} for record in failed],
        "notes": list(reading.notes),
    }
    return Imported(spec.out, not any(changed for changed, _, _ in done), text, facts)


def _first_failed(failed: "Sequence[Record]") -> str:
    return first_of([f"{record.id or record.where}: {record.failed[:80]}" for record in failed], _SHOWN, "; ")


def _plans(spec: ImportSpec, answered: "Sequence[Record]", small: ActivationStore | None) -> list[_Plan]:
    """Return what each model's store is to hold.

    Raises:
        InvalidInputError: no sample matches, two records are of one sample, or nobody says which model has answered.
    """
    from relope.extract.imported import lone_rows, matched_rows
    from relope.extract.importing.matching import match

    plans = []
    for model, out, records in _by_model(spec, answered):
        if small is None:
            plans.append(_Plan(model, out, lone_rows(records, _dataset(spec)), records, None))
            continue
        matches = match(records, small.samples)
        if not matches.rows:
            raise InvalidInputError(
                f"none of {counted(len(records), 'answer')} of {model} is of a sample of {small.label}: "
                f"{matches.unmatched_text()}",
                hint="ids must be those of the store, or the file must tell question and images as they are there",
            )
        matched = [matches.rows[row] for row in sorted(matches.rows)]
        plans.append(_Plan(model, out, matched_rows(matches.rows, small.samples), matched, matches))
    return plans


def _dataset(spec: ImportSpec) -> str:
    """Return what the data set is called where no store says it."""
    return Path(spec.files[0]).name.partition(".")[0] or "imported"


def _by_model(spec: ImportSpec, answered: "Sequence[Record]") -> "list[tuple[str, Path, list[Record]]]":
    """Return model, store and records of each model; several models have stores in the folder that is asked for.

    Raises:
        NotFoundError: the model that is asked for is none of several.
        InvalidInputError: nobody says which model has answered.
    """
    models: dict[str, list[Record]] = {}
    for record in answered:
        models.setdefault(record.model, []).append(record)
    if len(models) == 1:
        (model, records), *_ = models.items()
        if not (name := spec.model or model):
            raise InvalidInputError("the files do not say which model has answered", hint="name it with --model")
        return [(name, spec.out, records)]
    if "" in models:
        where = models[""][0].where
        raise InvalidInputError(
            f"{where} does not say which model has answered, and others do", hint="import each apart"
        )
    if spec.model is None:
        _check_files(models)
        return [(name, spec.out / f"{_file_name(name)}.zarr", records) for name, records in models.items()]
    if spec.model not in models:
        raise unknown("model of these files", spec.model, models, "without --model, each gets a store below --out")
    return [(spec.model, spec.out, models[spec.model])]


def _check_files(models: "Iterable[str]") -> None:
    """Refuse two models whose stores would be one.

    Raises:
        InvalidInputError: their names differ in nothing that a file's name has.
    """
    first: dict[str, str] = {}
    for model in models:
        other = first.setdefault(_file_name(model).casefold(), model)
        if other != model:
            what = f"the stores of {other} and {model} would both be called {_file_name(model)}.zarr"
            raise InvalidInputError(what, hint="import each by itself, with --model")


def _file_name(model: str) -> str:
    """Return a model's name as that of a file."""
    name = "".join(letter if letter.isalnum() or letter in "-_.+" else "_" for letter in model).lstrip(".")
    return name[:100] or "model"


def _write(
    spec: ImportSpec, plan: _Plan, small: ActivationStore | None, formats: Sequence[str]
) -> tuple[bool, dict[str, Any], str]:
    """Write one store; return whether it changed, facts, and a line of text."""
    from relope.extract.imported import imported_manifest, write_imported

    manifest = imported_manifest(plan.model, formats, small.manifest if small else None, _dataset(spec))
    written = write_imported(plan.out, manifest, plan.rows, plan.records)
    if written.changed:
        note_made(plan.out, [MadeBy(now(), command_line(spec))])
    facts: dict[str, Any] = {
        "model": plan.model,
        "path": str(plan.out),
        "answers": len(plan.rows),
        "new": written.n_new,
        "accuracy": written.accuracy,
        "verdicts": written.n_verdicts,
        "grader": IMPORTED if written.n_verdicts else None,
    }
    text = f"{counted(len(plan.rows), 'answer')} of {plan.model}"
    if plan.matches is not None and small is not None:
        facts |= _matched_facts(plan, small)
        text += _matched_text(plan.matches, facts, small.label)
    return written.changed, facts, f"{text}, {_verdicts_text(facts, plan)} → {plan.out}"


def _matched_facts(plan: _Plan, small: ActivationStore) -> dict[str, Any]:
    """Return how samples were matched, and which of the splits that the answers are of have none."""
    assert plan.matches is not None
    has = {row["id"] for row in plan.rows}
    splits = {row["split"] for row in plan.rows}
    pairs = small.samples.select("id", "split").iter_rows()
    return {
        "by_id": plan.matches.by_id,
        "by_question": plan.matches.by_question,
        "unmatched": [
            {"id": record.id, "where": record.where, "reason": reason} for record, reason in plan.matches.unmatched
        ],
        "unanswered": [name for name, split in pairs if split in splits and name not in has],
        "splits": sorted(splits),
    }


def _matched_text(matches: "Matches", facts: dict[str, Any], label: str) -> str:
    ways = {"id": matches.by_id, "question and images": matches.by_question}
    text = f" matched to {label} ({', '.join(f'{n:,} by {way}' for way, n in ways.items() if n)})"
    if matches.unmatched:
        text += f", {len(matches.unmatched):,} match none and are left out ({matches.unmatched_text()})"
    if lacking := facts["unanswered"]:
        of = f"{counted(len(lacking), 'sample')} of {', '.join(facts['splits'])}"
        text += f"; {of} without an answer (first: {', '.join(lacking[:_SHOWN])})"
    return text


def _verdicts_text(facts: dict[str, Any], plan: _Plan) -> str:
    if facts["accuracy"] is None:
        return "no verdicts: `relope grade` judges them"
    text = f"accuracy {facts['accuracy']:.3f} by {IMPORTED}"
    n = facts["verdicts"]
    return text if n == len(plan.rows) else f"{text} on {n:,}, {len(plan.rows) - n:,} are without a verdict"


def _importers(spec: ImportSpec) -> list[tuple[str, str]]:
    return [] if spec.format else [("importers", name) for name in registry.names("importers")]


STEP = Step(run, output, version=1, grows=True, plugins=_importers)
