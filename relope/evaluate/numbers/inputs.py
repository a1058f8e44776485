"""What a report is made of, checked."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import InvalidInputError
from relope.evaluate.numbers.answer_seconds import AnswerSeconds
from relope.evaluate.numbers.costs import Costs
from relope.evaluate.numbers.metrics import Bools, Floats, Ints
from relope.evaluate.numbers.routing import MARKS
from relope.grouped import group_names
from relope.types import ResultWarning

if TYPE_CHECKING:
    from PIL.Image import Image

BASELINE = "probe"
"""The method that every other one is compared with."""

LABEL_COLUMNS = ("id", "group", "correct", "question", "response", "answers", "dataset")
REGRADE = "grade the store again with `relope grade`"


def no_image(sample_id: str) -> "Image | None":
    """Return no image."""
    return None


@dataclass(frozen=True)
class Origin:
    """Where a method's scores come from: what anybody needs to make them again.

    Attributes:
        n_train: samples that it learned from; None where it learns nothing, or an older relope did not say.
        layer: the block l that it reads; None where it reads no states.
        settings: of the method, defaults included.
        grader: ``grader@version`` that judged what it learned from; ``""`` as ``n_train``.
        splits: that it learned from.
        commands: the command lines, fit before predict.
        dates: of these, in UTC.
    """

    n_train: int | None = None
    layer: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    grader: str = ""
    splits: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()


@dataclass(frozen=True)
class MethodScores:
    """One method's scores on the test samples, in the order of the labels.

    Attributes:
        name: what its row is called.
        scores: ``[N]`` P(correct), or ``[S, N]``, one row a seed of its training.
        seconds_fit: time of the training, None when there was none.
        note: shown under the method's name.
        needs_training: False for heuristics.
        is_control: True for methods that look at no hidden state and only show how far the
            question alone gets.
        seeds: one a row of ``scores``.
        held: ``[V]`` scores of the first seed on the validation split, where thresholds are set.
        seconds_predict_each: time to score one sample from the store.
        bytes_read_fit: what the training read from the store.
        bytes_read_each: what scoring one sample reads from the store.
        origin: where the scores come from.
        decides_before_answer: whether it scores before the small model answers; None where nobody knows.
        needs: what the small model does for it beside answering, as flags of an extraction.
        seen: the evaluated splits that it learned from, wholly or in part; its numbers are then no test.
        n_seen: the evaluated samples that it learned from; None where it is those splits whole.
    """

    name: str
    scores: npt.NDArray[Any]
    seconds_fit: float | None = None
    note: str = ""
    needs_training: bool = True
    is_control: bool = False
    seeds: tuple[int, ...] = (0,)
    held: Floats | None = None
    seconds_predict_each: float | None = None
    bytes_read_fit: int | None = None
    bytes_read_each: float | None = None
    origin: Origin = Origin()
    decides_before_answer: bool | None = None
    needs: str = ""
    seen: Sequence[str] = ()
    n_seen: int | None = None

    @property
    def is_fair(self) -> bool:
        """Return whether it may be called the best: no control, and judged on samples that it has not seen."""
        return not self.is_control and not self.seen

    @property
    def is_free(self) -> bool:
        """Return whether it costs nothing: no training, and nothing that the small model does beside answering."""
        return self.is_fair and not self.needs_training and not self.needs

    @property
    def by_seed(self) -> Floats:
        """Return ``[S, N]``."""
        return np.atleast_2d(np.asarray(self.scores, dtype=np.float64))


@dataclass(frozen=True)
class LargeModel:
    """A further large model.

    Attributes:
        name: of the model.
        correct: ``[N]`` whether it is right.
        costs: of the small model and it; None when no price list was given.
    """

    name: str
    correct: Bools
    costs: Costs | None = None


@dataclass(frozen=True)
class ReportInputs:
    """Everything a report is made of.

    Attributes:
        title: heading.
        what: one sentence saying what was run.
        small_name: the model whose answers are graded.
        large_name: the model that is asked instead.
        dataset: what the questions are.
        labels: one row a test sample: id, group, correct, question, response, answers, dataset
            and, if known, kind.
        methods: at least one.
        large_correct: ``[N]`` or None when the large model was not run.
        provenance: recipe, digests, spec: shown and copied into the JSON.
        caveat: what the numbers can and cannot show.
        costs: what each model costs on each sample, None when no price list was given.
        images: sample id → its image, None when there is none.
        resamples: bootstrap draws.
        seed: of the draws and of tie breaking.
        warnings: what must be said of the numbers that labels and scores alone do not tell.
        budget: share of the questions that may be escalated, in whole percents.
        further: large models beside the first.
        seconds_answers: that answers of the models took.
    """

    title: str
    what: str
    small_name: str
    large_name: str
    dataset: str
    labels: pl.DataFrame
    methods: Sequence[MethodScores]
    large_correct: Bools | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    caveat: str = ""
    costs: Costs | None = None
    images: "Callable[[str], Image | None]" = no_image
    resamples: int = 2000
    seed: int = 0
    warnings: Sequence[ResultWarning] = ()
    budget: float = 0.2
    further: Sequence[LargeModel] = ()
    seconds_answers: Sequence[AnswerSeconds] = ()

    @property
    def budget_percent(self) -> int:
        """Return the budget in percent."""
        return round(100 * self.budget)

    @property
    def marks(self) -> tuple[int, ...]:
        """Return the percents escalated at which accuracies are quoted, the budget among them."""
        return tuple(sorted({*MARKS, self.budget_percent}))

    def __post_init__(self) -> None:
        """Check that everything fits together.

        Raises:
            InvalidInputError: columns, samples or methods are missing, repeated or of another length.
        """
        lacking = [name for name in LABEL_COLUMNS if name not in self.labels.columns]
        if lacking:
            raise InvalidInputError(f"the labels lack the columns {', '.join(lacking)}", hint=REGRADE)
        if not self.labels.height:
            raise InvalidInputError(
                "there are no test samples to report on",
                hint="extract the test split with `relope extract --split test`",
            )
        if n_null := self.labels["correct"].null_count():
            raise InvalidInputError(f"{n_null:,} of {self.labels.height:,} samples have no grade", hint=REGRADE)
        if self.large_correct is not None and len(self.large_correct) != self.labels.height:
            raise InvalidInputError(
                f"the large model has {len(self.large_correct):,} labels for {self.labels.height:,} samples; "
                "pass one a sample, or none at all"
            )
        self._check_methods()

    def _check_methods(self) -> None:
        if not self.methods:
            raise InvalidInputError("there are no scores to report on", hint="make some with `relope predict`")
        for name, times in Counter(method.name for method in self.methods).items():
            if times > 1:
                raise InvalidInputError(f"method {name!r} comes {times} times; give each a name of its own")
        for method in self.methods:
            values = method.by_seed
            if values.shape != (len(method.seeds), self.labels.height):
                raise InvalidInputError(
                    f"{method.name} has scores of shape {list(np.shape(method.scores))} for {self.labels.height:,} "
                    f"samples and {len(method.seeds)} seeds; pass one a sample, one row a seed"
                )
            if not ((values >= 0) & (values <= 1)).all():
                raise InvalidInputError(f"{method.name} has scores outside [0, 1] or NaN; a score is P(correct)")

    @functools.cached_property
    def correct(self) -> Bools:
        """``[N]`` labels of the small model."""
        return self.labels["correct"].cast(pl.Boolean).to_numpy()

    @property
    def group_names(self) -> pl.Series:
        """``[N]`` groups by name; a sample without one stands for itself."""
        return group_names(self.labels)

    @functools.cached_property
    def groups(self) -> Ints:
        """``[N]`` groups by number, in the order of their names."""
        return self.group_names.rank("dense").to_numpy().astype(np.int64)

    @functools.cached_property
    def scores(self) -> Floats:
        """``[M, N]``: of each method's first seed."""
        return np.stack([method.by_seed[0] for method in self.methods])
