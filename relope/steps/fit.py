"""The step ``fit``: a router from a store, and the record that makes it count; with folds, scores out of fold."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from relope.cards.facts import TOLD
from relope.command_line import now
from relope.errors import InvalidInputError
from relope.locations import named
from relope.probes.protocol import KeepsHistory, make, note_of
from relope.probes.router import RouterRecord, changes, is_fitted, read_record, write_router
from relope.probes.seen import marks_of
from relope.probes.stack import Stack
from relope.spec import FitSpec
from relope.steps.lesson import VERSION, Lesson, lesson_of
from relope.steps.members import told
from relope.steps.out_of_fold import score_out_of_fold
from relope.steps.outcomes import Fitted
from relope.steps.outputs import folds_path, router_folder, router_name
from relope.steps.step import Step
from relope.steps.tracking import Tell, check_tracker, run_name, tracked
from relope.types import TextTable, Watch, no_progress
from relope.words import counted


def output(spec: FitSpec) -> Path:
    """Return the router's folder, or the file of the scores out of fold.

    Raises:
        InvalidInputError: the scores out of fold are to go into what is no Parquet file.
    """
    if spec.folds is None:
        return spec.out or router_folder(spec.store, router_name(spec.method, spec.seed))
    if spec.out is not None and spec.out.suffix != ".parquet":
        raise InvalidInputError(
            f"folds leave a file of scores and no router: {spec.out} must end in .parquet",
            hint=f"give --out {spec.out}.parquet",
        )
    return spec.out or folds_path(spec.store, spec.method, spec.folds, spec.seed)


def check(spec: FitSpec) -> None:
    """Refuse settings that the method does not have, and a tracker that is not installed."""
    make(spec.method, spec.set)
    check_tracker(spec)


def run(spec: FitSpec, watch: Watch) -> Fitted:
    """Fit a method from a store into a router folder; with folds score the same samples out of fold instead."""
    check_tracker(spec)
    out, lesson = output(spec), lesson_of(spec)
    name = run_name("fit", lesson.method, spec.store, "seed", lesson.seed)
    if lesson.folds is not None:
        with tracked(spec, f"{name} out of fold") as tell:
            scored = score_out_of_fold(lesson, lesson.folds, out, watch)
            tell({key: scored.facts.get(key) for key in ("samples", "seconds", "folds")})
        return scored
    if is_fitted(out, lesson.fingerprint):
        text = f"{lesson.method} up to date, fitted on grades by {lesson.grader} → {out}"
        return Fitted(out, True, text, {"grader": lesson.grader}, warnings=lesson.warnings)
    earlier = read_record(out)
    with tracked(spec, name) as tell:
        record, kept = _fit(lesson, out, watch, tell)
        _tell(tell, lesson, record)
    note, n_shared = note_of(lesson.probe), lesson.training.n_shared
    shared = f" ({n_shared} left out: their image or question is in another split)" if n_shared else ""
    text = f"{lesson.method} fitted on {counted(record.n_samples, 'sample')}{shared} judged by {lesson.grader}"
    text += f" in {record.seconds_fit:.1f} s"
    text += f" ({note})" if note else ""
    if earlier is not None and kept is not None:
        text += f"; another router was there ({changes(earlier, record)}), now kept in {kept}"
    facts = {"seconds": record.seconds_fit, "samples": record.n_samples, "note": note, "shared": n_shared}
    facts |= {"grader": lesson.grader, "kept": None if kept is None else str(kept)}
    tables: list[TextTable] = []
    if isinstance(lesson.probe, Stack):
        table, members = told(lesson.probe.out_of_fold_, lesson.seed)
        tables, facts = [table], facts | members
    return Fitted(out, False, f"{text} → {out}", facts, tables, warnings=lesson.warnings)


def _tell(tell: Tell, lesson: Lesson, record: RouterRecord) -> None:
    """Tell a tracker what a fit came to; its epochs have been told as they ended."""
    done: dict[str, float | None] = {"samples": record.n_samples, "seconds": record.seconds_fit}
    epochs = 0
    if isinstance(lesson.probe, KeepsHistory):
        history = lesson.probe.history_
        epochs = len(history.auc)
        done |= {"inner/best_auc": history.auc[history.best], "best_epoch": history.best + 1}
    tell(done, epochs)


def _origin(recorded: Mapping[str, Any]) -> dict[str, str]:
    """Return what a store records of its origin, for the router's card; no path of this machine."""
    return {name: named(str(recorded[name])) for name in TOLD if recorded.get(name)}


def _fit(lesson: Lesson, out: Path, watch: Watch, tell: Tell) -> tuple[RouterRecord, Path | None]:
    """Fit and write; under ``torchrun`` every process fits and the first one writes.

    Returns:
        The record, and where a router that was there is kept.
    """
    from relope.probes.parallel import process_group
    from relope.probes.resume import Spent, remove_state, state_file

    examples, state, store = lesson.examples(), state_file(out, lesson.fingerprint), lesson.training.store
    with process_group(examples.device, shared=lesson.streamed) as world, watch(f"fit {lesson.method}") as progress:
        spent = Spent(state, store.bytes_read)
        told = spent.noting(progress, lambda: store.bytes_read) if world.rank == 0 else no_progress
        examples = replace(
            examples, state=state, epoch_ended=lambda n, loss, auc: tell({"train/loss": loss, "inner/auc": auc}, n)
        )
        lesson.probe.fit(examples, seed=lesson.seed, progress=told)
        seconds, n_bytes = spent.until(store.bytes_read)
        record = RouterRecord(
            method=lesson.method,
            layer=lesson.layer,
            seed=lesson.seed,
            fingerprint=lesson.fingerprint,
            recipe_id=store.recipe_id,
            n_samples=len(examples),
            seconds_fit=seconds,
            settings=lesson.settings,
            bytes_read=n_bytes,
            identity=dict(store.manifest.identity),
            splits=list(lesson.splits),
            grader=lesson.grader,
            dataset=lesson.dataset,
            command=lesson.command,
            date=now(),
            origin=_origin(store.manifest.recorded),
        )
        kept = None
        if world.rank == 0:
            kept = write_router(out, record, lesson.probe, marks_of(lesson.training.store, lesson.training.rows))
            remove_state(state)
            if kept is not None:
                remove_state(state_file(kept, lesson.fingerprint))
    return record, kept


STEP = Step(run, output, version=VERSION, check=check)
