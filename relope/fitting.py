"""The step ``fit``: what is learned from, who fits it, and the record that makes it count."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from relope import __version__
from relope.errors import InvalidInputError
from relope.examples import training_samples, training_verdicts
from relope.fits import check_launch, device_here, ensure_block, remove_state, state_file
from relope.grades import correct_of
from relope.probes import Examples, make, method_class
from relope.probes._parallel import process_group
from relope.provenance import digest
from relope.routers import Router, read_router, router_folder, router_name, write_router
from relope.spec import FitSpec
from relope.steps import Outcome, Watch, examples_of, open_streams, pick_layer
from relope.store import ActivationStore, RowReader
from relope.types import no_progress


def fit_router(spec: FitSpec, watch: Watch) -> Outcome:
    """Fit a method from a store into a router folder; with folds also score the same samples out of fold."""
    settings = {**spec.set, **({"mode": spec.mode} if spec.mode else {})}
    probe = make(spec.method, settings)
    training = training_samples(spec)
    store, rows, correct = training.store, training.rows, training.correct
    layer = pick_layer(store, spec.layer, probe.layers)
    out = spec.out or router_folder(spec.store, router_name(spec.method, spec.seed))
    known = store.samples[rows].select("id", "content").rows()
    large = large_verdicts(spec, store, rows)
    asked = spec.model_dump(mode="json", exclude={"out", "store", "also", "device", "folds", "large_store"})
    decided = [correct.tolist(), None if large is None else large.tolist()]
    fingerprint = digest([asked, layer, store.recipe_id, known, decided, __version__])
    if (old := read_router(out)) and old.fingerprint == fingerprint:
        return _with_folds(spec, out, Outcome(out, True, f"{spec.method} up to date → {out}"), watch)
    streamed = settings.get("mode", "cached") != "cached"
    if streamed and spec.also:
        raise InvalidInputError(f"--mode {settings['mode']} streams one store; drop --also, or use --mode cached")
    check_launch(streamed)
    device = device_here(spec.device)
    ensure_block(store, probe, layer)
    streams = open_streams(store, device) if streamed else None
    state = state_file(out, fingerprint)
    verdicts = training_verdicts(store, rows, spec.grades)
    examples = replace(examples_of(store, rows, correct, layer, streams, device, verdicts, large), state=state)
    router = _fit(
        spec, probe, examples, Router(spec.method, layer, spec.seed, fingerprint, settings=settings), out, watch
    )
    note = getattr(probe, "note", "")
    shared = f" ({training.n_shared} left out: their picture is in another split)" if training.n_shared else ""
    text = f"{spec.method} fitted on {len(rows)} samples{shared} in {router.seconds_fit:.1f} s"
    text += f" ({note})" if note else ""
    facts = {"seconds": router.seconds_fit, "samples": len(rows), "note": note, "shared": training.n_shared}
    return _with_folds(spec, out, Outcome(out, False, f"{text} → {out}", facts), watch)


def _fit(spec: FitSpec, probe: Any, examples: Examples, router: Router, out: Path, watch: Watch) -> Router:
    """Fit and write; under ``torchrun`` every process fits and the first one writes. Return the record."""
    store = examples.store
    begun, bytes_before = time.perf_counter(), store.bytes_read
    with process_group(examples.device) as world, watch(f"fit {spec.method}") as progress:
        probe.fit(examples, seed=spec.seed, progress=progress if world.rank == 0 else no_progress)
        done = replace(
            router,
            recipe_id=store.recipe_id,
            n_samples=len(examples),
            seconds_fit=time.perf_counter() - begun,
            bytes_read=store.bytes_read - bytes_before,
            identity=store.manifest.identity,
        )
        if world.rank == 0:
            write_router(out, done, probe)
            if examples.state is not None:
                remove_state(examples.state)
    return done


def _with_folds(spec: FitSpec, out: Path, done: Outcome, watch: Watch) -> Outcome:
    """Make out-of-fold scores too, when they are asked for."""
    if spec.folds is None:
        return done
    from relope.folds import score_out_of_fold

    path, reused = score_out_of_fold(spec, out, watch)
    text = f"{done.text}; out-of-fold scores {'up to date' if reused else 'made'} → {path}"
    return Outcome(done.path, done.reused and reused, text, {**done.facts, "scores": str(path)})


def large_verdicts(spec: FitSpec, store: RowReader, rows: Any) -> Any:
    """Return whether the large model is right on each row ``[N] bool``; None when it was not asked for.

    Raises:
        InvalidInputError: the method reads no large store, or that store lacks some of the samples.
    """
    if spec.large_store is None:
        return None
    if not getattr(method_class(spec.method), "reads_large", False):
        raise InvalidInputError(f"{spec.method} reads no large store; drop --large-store, or fit routellm-sw")
    return correct_of(ActivationStore.open(spec.large_store), store.samples[rows]["id"].to_list())
