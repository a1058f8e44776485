"""What a fit learns and from what, resolved once: nothing below reads a specification."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from relope import registry
from relope.errors import InvalidInputError
from relope.probes.examples import Examples
from relope.probes.protocol import Probe, block_use, make, method_class, pick_layer
from relope.provenance import digest
from relope.spec import FitSpec
from relope.steps.reopen import device_here, ensure_block, open_streams
from relope.steps.samples import Selection, TrainingRows, training_rows
from relope.store import ActivationStore, open_store
from relope.store.grades import correct_of

VERSION = 1
"""Of a fit: raised when the same samples and settings give another router. A method has its own."""


@dataclass(frozen=True)
class Lesson:
    """A method and what it is to learn from.

    Attributes:
        method: CLI name.
        settings: of the method, those that were given.
        seed: decides initial weights, batches and the inner split.
        splits: that are learned from.
        grades: grader@version that was asked for; None = the newest.
        training: the samples, with the grades of the small model's answers.
        large_correct: ``[N]`` whether the large model is right; None when it was not asked for.
        layer: the block l that is read.
        device: where heads are trained and a block of the backbone is run.
    """

    method: str
    settings: dict[str, Any]
    seed: int
    splits: Sequence[str]
    grades: str | None
    training: TrainingRows
    large_correct: npt.NDArray[np.bool_] | None
    layer: int
    device: str

    @property
    def streamed(self) -> bool:
        """Whether samples run through the backbone again."""
        return block_use(self.make()) == "streamed"

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of everything that decides the weights."""
        store, training = self.training.store, self.training
        asked = [VERSION, self.method, registry.version("methods", self.method), self.settings, self.seed, self.layer]
        samples = store.samples[training.rows].select("id", "content").rows()
        large = None if self.large_correct is None else self.large_correct.tolist()
        labels = [list(self.splits), self.grades, training.correct.tolist(), large]
        return digest([asked, store.recipe_id, samples, labels])

    def make(self) -> Probe:
        """Return the method, unfitted."""
        return make(self.method, self.settings)

    def examples(self, *, folded: bool = False) -> Examples:
        """Open what the method needs and return the samples as it takes them.

        Args:
            folded: several fits share the samples, which processes then cannot.

        Raises:
            InvalidInputError: several stores cannot be streamed, or processes cannot share this fit.
        """
        training, store = self.training, self.training.store
        if self.streamed and not isinstance(store, ActivationStore):
            raise InvalidInputError(
                f"{self.method} streams the samples of one store, not of several",
                hint="drop --also, or use --set mode=cached",
            )
        from relope.probes.parallel import check_launch

        check_launch(self.streamed and not folded)
        ensure_block(store, self.make(), self.layer)
        return Examples(
            store,
            training.rows,
            training.correct,
            self.layer,
            open_streams(store, self.device) if self.streamed else None,
            self.device,
            training.parsed,
            self.large_correct,
        )


def lesson_of(spec: FitSpec) -> Lesson:
    """Read which samples a fit learns from, and what is known about them.

    Raises:
        RelopeError: settings, stores, splits or layers that do not fit together.
    """
    probe = make(spec.method, spec.set)
    training = training_rows(
        Selection((spec.store, *spec.also), spec.split, spec.grades, spec.leave_out, spec.cap, spec.seed)
    )
    return Lesson(
        method=spec.method,
        settings=spec.set,
        seed=spec.seed,
        splits=spec.split,
        grades=spec.grades,
        training=training,
        large_correct=_large_correct(spec.method, spec.large_store, training),
        layer=pick_layer(training.store, probe, spec.layer),
        device=device_here(spec.device),
    )


def _large_correct(method: str, large_store: str | None, training: TrainingRows) -> npt.NDArray[np.bool_] | None:
    """Return whether the large model is right on each sample ``[N]``; None when it was not asked for.

    Raises:
        InvalidInputError: the method reads no large store, or that store lacks some of the samples.
    """
    if large_store is None:
        return None
    if not method_class(method).traits.reads_large:
        raise InvalidInputError(
            f"{method} reads no large store, {large_store} was given", hint="drop --large-store, or fit routellm-sw"
        )
    ids = training.store.samples[training.rows]["id"].to_list()
    return correct_of(open_store(large_store), ids)
