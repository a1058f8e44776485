"""What a fit learns and from what, resolved once: nothing below reads a specification."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from relope import registry
from relope.command_line import command_line
from relope.errors import InvalidInputError
from relope.evaluate.numbers.scarcity import LEARNED, scarcity
from relope.extract.model.devices import check_device
from relope.fields import refuse_given
from relope.grouped import group_names
from relope.probes.examples import Examples
from relope.probes.protocol import Probe, Stacks, block_use, check_layer, check_method, check_settings, make, pick_layer
from relope.provenance import digest
from relope.spec import FitSpec
from relope.steps.joins import judged_elsewhere, large_correct, not_refused
from relope.steps.reopen import device_here, open_block
from relope.steps.samples import Selection, TrainingRows, training_rows
from relope.store import ActivationStore, RowReader, open_store
from relope.types import ResultWarning

log = logging.getLogger(__name__)

VERSION = 1
"""Of a fit: raised when the same samples and settings give another router. A method has its own."""


@dataclass(frozen=True)
class Lesson:
    """A method and what it is to learn from.

    Attributes:
        method: CLI name.
        settings: of the method, those that were given.
        probe: the method with its settings, unfitted.
        seed: decides initial weights, batches and the inner split.
        splits: that are learned from.
        training: the samples, with the grades of the small model's answers.
        large_correct: ``[N]`` whether the large model is right; None when it was not asked for.
        layer: the block l that is read.
        device: that was asked for, where heads are trained and a block of the backbone is run.
        folds: score the samples out of fold, with so many; None keeps one router.
        jobs: processes that a stack may fit its methods in; the router does not depend on it.
        command: the command line.
        notes: what must be said of samples that are left out.
    """

    method: str
    settings: dict[str, Any]
    probe: Probe
    seed: int
    splits: Sequence[str]
    training: TrainingRows
    large_correct: npt.NDArray[np.bool_] | None
    layer: int
    device: str
    folds: int | None
    jobs: int
    command: str
    notes: tuple[ResultWarning, ...] = ()

    @property
    def grader(self) -> str:
        """``grader@version`` that judged what is learned from; of several stores each, joined by " + "."""
        return " + ".join(self.training.graders)

    @property
    def dataset(self) -> str:
        """What is learned from, by name."""
        return " + ".join(self.training.store.samples[self.training.rows]["dataset"].unique().sort())

    @property
    def streamed(self) -> bool:
        """Whether samples run through the backbone again."""
        return block_use(self.probe) == "streamed"

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of everything that decides the weights."""
        store, training = self.training.store, self.training
        asked = [VERSION, self.method, registry.version("methods", self.method), self.settings, self.seed, self.layer]
        samples = store.samples[training.rows].select("id", "content").rows()
        large = None if self.large_correct is None else self.large_correct.tolist()
        labels = [list(self.splits), training.graders, training.correct.tolist(), large]
        return digest([asked, store.recipe_id, samples, labels])

    @property
    def warnings(self) -> tuple[ResultWarning, ...]:
        """What must be said of what is learned: what is left out, too few of a class."""
        training = self.training
        groups = np.asarray(group_names(training.store.samples[training.rows]).to_list(), dtype=np.str_)
        return (*self.notes, *scarcity(training.correct, groups, "training samples", LEARNED))

    def examples(self) -> Examples:
        """Open what the method runs block l with and return the samples as it takes them.

        Raises:
            InvalidInputError: several stores cannot be streamed.
        """
        training, device = self.training, device_here(self.device)
        return Examples(
            training.store,
            training.rows,
            training.correct,
            self.layer,
            open_block(training.store, [(self.probe, self.layer)], device),
            device,
            training.parsed,
            self.large_correct,
            jobs=self.jobs,
        )


def _beside(
    large: ActivationStore, training: TrainingRows
) -> tuple[TrainingRows, npt.NDArray[np.bool_], tuple[ResultWarning, ...]]:
    """Return the samples that a large model has answered, ``[N]`` whether it is right, and what is said of the others.

    Raises:
        InvalidInputError: its answers are judged otherwise than the small one's, or it was asked something else.
    """
    store, graders = training.store, training.graders
    if len(graders) > 1:
        raise InvalidInputError(
            f"{store.label} are judged by {' and '.join(graders)}; beside a large store one grader must judge all",
            hint="`relope grade` them by one grader, or drop --also",
        )
    for warning in judged_elsewhere(large, graders[0], str(store.manifest.recorded["model"])):
        log.warning("%s", warning.text)
    stay, left_out = not_refused([large], store.samples[training.rows], "who is right on such is not learned")
    training = training.some(stay)
    samples = store.samples[training.rows]
    right = large_correct(large, graders[0], store.label, store.manifest.identity, samples)
    return training, right, left_out


def _check_holds_states(store: RowReader, spec: FitSpec) -> None:
    """Refuse a store of answers only to a method that reads states; other methods need not be made for that.

    Raises:
        NotFoundError: it is one.
    """
    if store.manifest.answers_only:
        pick_layer(store, make(spec.method, spec.set), spec.layer)


def lesson_of(spec: FitSpec) -> Lesson:
    """Read which samples a fit learns from, and what is known about them.

    Raises:
        RelopeError: settings, stores, splits or layers that do not fit together.
    """
    check_method(spec.method)
    check_settings(spec.method, spec.set)
    check_device(spec.device)
    training = training_rows(
        Selection((spec.store, *spec.also), spec.split, spec.grades, spec.leave_out, spec.cap, spec.seed),
        lambda store: _check_holds_states(store, spec),
    )
    if spec.layer is not None:
        check_layer(training.store, spec.layer)
    probe = make(spec.method, spec.set)  # which may load torch: mistakes about stores are told before
    if spec.large_store is not None and not probe.traits.reads_large:
        raise InvalidInputError(
            f"{spec.method} reads no large store, {spec.large_store} was given",
            hint="drop --large-store, or fit routellm-sw",
        )
    if not isinstance(probe, Stacks):
        refuse_given(spec, ("jobs",), f"is for methods that stack others, and {spec.method} is none")
    large, notes = None, tuple[ResultWarning, ...]()
    if spec.large_store is not None:
        training, large, notes = _beside(open_store(spec.large_store), training)
    return Lesson(
        method=spec.method,
        settings=spec.set,
        probe=probe,
        seed=spec.seed,
        splits=spec.split,
        training=training,
        large_correct=large,
        layer=pick_layer(training.store, probe, spec.layer),
        device=spec.device,
        folds=spec.folds,
        jobs=spec.jobs,
        command=command_line(spec),
        notes=notes,
    )
