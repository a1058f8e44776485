"""The step ``fit``: a router from a store, and the record that makes it count; with folds, scores out of fold."""

import time
from dataclasses import replace
from pathlib import Path

from relope.probes.protocol import Probe, make, note_of
from relope.probes.router import Router, read_router, router_name, write_router
from relope.spec import FitSpec
from relope.steps.lesson import VERSION, Lesson, lesson_of
from relope.steps.out_of_fold import score_out_of_fold
from relope.steps.outputs import folds_path, router_folder
from relope.steps.step import Step
from relope.types import Outcome, Watch, no_progress


def output(spec: FitSpec) -> Path:
    """Return the router's folder, or the file of the scores out of fold."""
    if spec.out is not None:
        return spec.out
    if spec.folds is not None:
        return folds_path(spec.store, spec.method, spec.folds, spec.seed)
    return router_folder(spec.store, router_name(spec.method, spec.seed))


def check(spec: FitSpec) -> None:
    """Refuse settings that the method does not have."""
    make(spec.method, spec.set)


def run(spec: FitSpec, watch: Watch) -> Outcome:
    """Fit a method from a store into a router folder; with folds score the same samples out of fold instead."""
    out = output(spec)
    if spec.folds is not None:
        return score_out_of_fold(lambda: lesson_of(spec), spec.folds, out, watch)
    lesson = lesson_of(spec)
    if _stands(out, lesson):
        return Outcome(out, True, f"{lesson.method} up to date → {out}")
    probe = lesson.make()
    router = _fit(lesson, probe, out, watch)
    note, n_shared = note_of(probe), lesson.training.n_shared
    shared = f" ({n_shared} left out: their image is in another split)" if n_shared else ""
    text = f"{lesson.method} fitted on {router.n_samples} samples{shared} in {router.seconds_fit:.1f} s"
    text += f" ({note})" if note else ""
    facts = {"seconds": router.seconds_fit, "samples": router.n_samples, "note": note, "shared": n_shared}
    return Outcome(out, False, f"{text} → {out}", facts)


def _fit(lesson: Lesson, probe: Probe, out: Path, watch: Watch) -> Router:
    """Fit and write; under ``torchrun`` every process fits and the first one writes. Return the record."""
    from relope.probes.parallel import process_group
    from relope.probes.resume import remove_state, state_file

    examples = replace(lesson.examples(), state=state_file(out, lesson.fingerprint))
    store = examples.store
    begun, bytes_before = time.perf_counter(), store.bytes_read
    with process_group(examples.device) as world, watch(f"fit {lesson.method}") as progress:
        probe.fit(examples, seed=lesson.seed, progress=progress if world.rank == 0 else no_progress)
        router = Router(
            method=lesson.method,
            layer=lesson.layer,
            seed=lesson.seed,
            fingerprint=lesson.fingerprint,
            recipe_id=store.recipe_id,
            n_samples=len(examples),
            seconds_fit=time.perf_counter() - begun,
            settings=lesson.settings,
            bytes_read=store.bytes_read - bytes_before,
            identity=dict(store.manifest.identity),
            splits=list(lesson.splits),
        )
        if world.rank == 0 and not _stands(out, lesson):  # another run may have made it meanwhile
            write_router(out, router, probe)
        if world.rank == 0 and examples.state is not None:
            remove_state(examples.state)
    return router


def _stands(out: Path, lesson: Lesson) -> bool:
    """Return whether the router is there already, fitted on the same."""
    old = read_router(out)
    return old is not None and old.fingerprint == lesson.fingerprint


STEP = Step(run, output, version=VERSION, check=check)
