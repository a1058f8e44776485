"""The step ``fit``: what is learned from, who fits it, and the record that makes it count."""

import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError
from relope.examples import Training, training_samples, training_verdicts
from relope.fits import check_launch, device_here, ensure_block, remove_state, state_file
from relope.probes.parallel import process_group
from relope.probes.protocol import Examples, Probe, make, method_class
from relope.probes.router import Router, read_router, router_folder, router_name, write_router
from relope.provenance import digest
from relope.spec import FitSpec
from relope.steps import Outcome, Watch, examples_of, open_streams, pick_layer
from relope.store import ActivationStore
from relope.store.grades import correct_of
from relope.types import no_progress
from relope.version import __version__


@dataclass(frozen=True)
class Lesson:
    """A method and what it is to learn from.

    Attributes:
        spec: what was asked for.
        training: the samples, with the verdicts on the small model.
        large: ``[N]`` whether the large model is right; None when it was not asked for.
        layer: the block l that is read.
    """

    spec: FitSpec
    training: Training
    large: Any
    layer: int

    @property
    def settings(self) -> dict[str, Any]:
        """The method's settings that were given."""
        return settings_of(self.spec)

    @property
    def streamed(self) -> bool:
        """Whether samples run through the backbone again."""
        return bool(self.settings.get("mode", "cached") != "cached")

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of everything that decides the weights."""
        asked = self.spec.model_dump(mode="json", exclude={"out", "store", "also", "device", "folds", "large_store"})
        store, rows = self.training.store, self.training.rows
        known = store.samples[rows].select("id", "content").rows()
        decided = [self.training.correct.tolist(), None if self.large is None else self.large.tolist()]
        return digest([asked, self.layer, store.recipe_id, known, decided, __version__])

    def make(self) -> Probe:
        """Return the method, unfitted."""
        return make(self.spec.method, self.settings)

    def examples(self) -> Examples:
        """Open what the method needs and return the samples as it takes them.

        Raises:
            InvalidInputError: several stores cannot be streamed, or processes cannot share this fit.
        """
        spec, store, rows = self.spec, self.training.store, self.training.rows
        if self.streamed and spec.also:
            raise InvalidInputError(
                f"--mode {self.settings['mode']} streams one store; drop --also, or use --mode cached"
            )
        check_launch(self.streamed and spec.folds is None)
        ensure_block(store, self.make(), self.layer)
        streams = open_streams(store, device_here(spec.device)) if self.streamed else None
        verdicts = training_verdicts(store, rows, spec.grades)
        return examples_of(store, rows, self.training.correct, self.layer, streams, spec.device, verdicts, self.large)


def settings_of(spec: FitSpec) -> dict[str, Any]:
    """Return the method's settings that were given."""
    return {**spec.set, **({"mode": spec.mode} if spec.mode else {})}


def lesson_of(spec: FitSpec) -> Lesson:
    """Read which samples a fit learns from, and what is known about them."""
    needs = make(spec.method, settings_of(spec)).layers
    training = training_samples(spec)
    return Lesson(spec, training, large_verdicts(spec, training), pick_layer(training.store, spec.layer, needs))


def fit_router(spec: FitSpec, watch: Watch) -> Outcome:
    """Fit a method from a store into a router folder."""
    lesson = lesson_of(spec)
    out = spec.out or router_folder(spec.store, router_name(spec.method, spec.seed))
    if _stands(out, lesson):
        return Outcome(out, True, f"{spec.method} up to date → {out}")
    examples = replace(lesson.examples(), state=state_file(out, lesson.fingerprint))
    probe = lesson.make()
    router = _fit(lesson, probe, examples, out, watch)
    note, n_shared = getattr(probe, "note", ""), lesson.training.n_shared
    shared = f" ({n_shared} left out: their picture is in another split)" if n_shared else ""
    text = f"{spec.method} fitted on {len(examples)} samples{shared} in {router.seconds_fit:.1f} s"
    text += f" ({note})" if note else ""
    facts = {"seconds": router.seconds_fit, "samples": len(examples), "note": note, "shared": n_shared}
    return Outcome(out, False, f"{text} → {out}", facts)


def _fit(lesson: Lesson, probe: Probe, examples: Examples, out: Path, watch: Watch) -> Router:
    """Fit and write; under ``torchrun`` every process fits and the first one writes. Return the record."""
    spec, store = lesson.spec, examples.store
    begun, bytes_before = time.perf_counter(), store.bytes_read
    with process_group(examples.device) as world, watch(f"fit {spec.method}") as progress:
        probe.fit(examples, seed=spec.seed, progress=progress if world.rank == 0 else no_progress)
        done = Router(
            method=spec.method,
            layer=lesson.layer,
            seed=spec.seed,
            fingerprint=lesson.fingerprint,
            recipe_id=store.recipe_id,
            n_samples=len(examples),
            seconds_fit=time.perf_counter() - begun,
            settings=lesson.settings,
            bytes_read=store.bytes_read - bytes_before,
            identity=store.manifest.identity,
            splits=list(spec.split),
        )
        if world.rank == 0 and not _stands(out, lesson):  # another run may have made it meanwhile
            write_router(out, done, probe)
        if world.rank == 0 and examples.state is not None:
            remove_state(examples.state)
    return done


def _stands(out: Path, lesson: Lesson) -> bool:
    """Return whether the router is there already, fitted on the same."""
    old = read_router(out)
    return old is not None and old.fingerprint == lesson.fingerprint


def large_verdicts(spec: FitSpec, training: Training) -> Any:
    """Return whether the large model is right on each sample ``[N] bool``; None when it was not asked for.

    Raises:
        InvalidInputError: the method reads no large store, or that store lacks some of the samples.
    """
    if spec.large_store is None:
        return None
    if not getattr(method_class(spec.method), "reads_large", False):
        raise InvalidInputError(f"{spec.method} reads no large store; drop --large-store, or fit routellm-sw")
    ids = training.store.samples[training.rows]["id"].to_list()
    return correct_of(ActivationStore.open(spec.large_store), ids)
