"""What a report says: the content of ``report.json``, one attribute a key."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError

from relope.errors import InvalidInputError
from relope.evaluate.numbers.answer_seconds import AnswerSeconds
from relope.evaluate.numbers.budget import Realised
from relope.evaluate.numbers.costs import Axis
from relope.evaluate.numbers.decision import Decision
from relope.evaluate.numbers.intervals import Interval
from relope.evaluate.numbers.routing import Kind, mark_key
from relope.evaluate.numbers.several import Several
from relope.evaluate.numbers.significance import Comparison, JudgedDifference
from relope.evaluate.numbers.slices import Slice
from relope.types import ResultWarning

FORMAT_VERSION = 3
"""Format 1 knew fewer numbers of a method, and no correction for several comparisons; format 2 no warnings."""

AucInterval = Literal["bootstrap", "closed form, few of a class", "closed form, many samples"]


@dataclass(frozen=True)
class Metric:
    """A statistic of a method, with the reason where it or its interval is undefined.

    Attributes:
        dropped: share of the resamples on which it is undefined, left out of its interval; None in older reports.
    """

    value: float | None
    ci95: Interval | None
    null_reason: str | None
    dropped: float | None = None


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """What a report says of one method; means over its seeds where it has several.

    Attributes:
        best_over_control: of a control: what the best method is ahead of it.
        accuracy_at: share escalated → accuracy, of the system or of what is kept.
        metrics: name → value, every one that is quoted.
        area_over_random: mean lead over random escalation, in accuracy points.
        oracle_area_share: that lead as a share of the oracle's.
        budgets_set_on: split that the thresholds of ``budgets`` come from.
        costs: axis → share escalated → mean cost of a query; None without prices, or where one is unknown.
        not_counted: what the small model does beside answering that no cost counts.
        n_train: samples that it learned from; None where it learns nothing, or an older relope did not say.
        layer: the block l that it reads; None where it reads no states.
        settings: of the method, defaults included.
        grader: ``grader@version`` that judged what it learned from; ``""`` as ``n_train``.
        learned_from: splits that it learned from.
        commands: the command lines that made its scores, fit before predict.
        dates: when they ran, in UTC.
        needs: the same, also where no costs are known.
        seen: the evaluated splits that it learned from, wholly or in part; its numbers are then no test.
        n_seen: the evaluated samples that it learned from; None where it is those splits whole.
    """

    method: str
    note: str
    is_control: bool
    needs_training: bool
    n: int
    n_groups: int
    n_correct: int
    auc: float | None
    ci95: Interval | None
    auc_null_reason: str | None
    difference_to_probe: Comparison | None
    best_over_control: JudgedDifference | None
    accuracy_at: Mapping[str, float | None]
    accuracy_at_ci95: Mapping[str, Interval | None]
    area_over_random: float
    oracle_area_share: float | None
    seconds_fit: float | None
    seconds_predict_each: float | None = None
    bytes_read_fit: int | None = None
    bytes_read_each: float | None = None
    seeds: tuple[int, ...] = (0,)
    auc_by_seed: tuple[float | None, ...] = ()
    auc_sd_over_seeds: float | None = None
    metrics: Mapping[str, Metric]
    budgets: tuple[Realised, ...] = ()
    budgets_set_on: Literal["validation", "test"] = "test"
    costs: Mapping[Axis, Mapping[str, float] | None] | None = None
    decides_before_answer: bool | None = None
    not_counted: str | None = None
    n_train: int | None = None
    layer: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    grader: str = ""
    learned_from: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    needs: str = ""
    seen: tuple[str, ...] = ()
    n_seen: int | None = None

    @property
    def auc_of_first_seed(self) -> float | None:
        """Return the AUC of the seed that parts of the data, thresholds and pictures of scores are of."""
        return self.auc_by_seed[0] if self.auc_by_seed else self.auc


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """The system of both models, led by the best method."""

    small_accuracy: float
    small_accuracy_ci95: Interval | None
    large_accuracy: float | None
    large_accuracy_ci95: Interval | None
    large_accuracy_null_reason: str | None
    best: str
    best_accuracy_at: Mapping[str, float | None]
    random_accuracy_at: Mapping[str, float]
    oracle_accuracy_at: Mapping[str, float | None]
    best_area_over_random: float
    best_oracle_area_share: float | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """The content of ``report.json``: a clock only under ``dates`` and ``date``, timings only under ``seconds_…``.

    Attributes:
        warnings: what must be said before any number is read, worst first; shown first everywhere.
        n_minority: image groups with the rarer of right and wrong answers; None before format 3.
        auc_interval: how intervals of AUCs, and of differences between them, were made.
        resamples: that were drawn, which of very many samples are fewer than was asked for.
        resamples_dropped: resamples without an AUC, since one class was absent.
        budget: share of the questions that may be escalated.
        decision: what the methods come to at that budget; None in reports before format 3.
        several: what several large models come to; None where one was given, or none.
        seconds_answers: that answers of the models took, small one first; empty where nobody has measured.
        best: the method with the highest AUC, controls and those that learned from these samples aside.
        accuracy_at_is: ``system`` with the large model's answers, ``kept`` where they are unknown.
        methods: best first, controls last.
        curves: method → accuracy at 0, 1, …, 100 % escalated, None where nothing is kept.
        random_curve: the same of random escalation.
        oracle_curve: the best that any order can reach.
        provenance: settings and digests, as the step that asked for the report names them.
    """

    format_version: int = FORMAT_VERSION
    title: str
    what: str
    small_name: str
    large_name: str
    dataset: str
    caveat: str
    warnings: tuple[ResultWarning, ...] = ()
    n: int
    n_groups: int
    n_correct: int
    n_minority: int | None = None
    auc_interval: AucInterval = "bootstrap"
    resamples: int
    resamples_dropped: int
    seed: int
    budget: float = 0.2
    decision: Decision | None = None
    several: Several | None = None
    seconds_answers: tuple[AnswerSeconds, ...] = ()
    best: str
    accuracy_at_is: Kind
    methods: tuple[MethodRow, ...]
    hybrid: Hybrid
    slices: tuple[Slice, ...]
    curves: Mapping[str, tuple[float | None, ...]]
    random_curve: tuple[float, ...] = ()
    oracle_curve: tuple[float | None, ...] = ()
    provenance: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def has_system(self) -> bool:
        """Return whether accuracies are those of both models together."""
        return self.accuracy_at_is == "system"

    @property
    def at_budget(self) -> str:
        """Return the key of the budget among accuracies."""
        return mark_key(round(100 * self.budget))

    @property
    def best_row(self) -> MethodRow:
        """Return the row of the best method."""
        return self.row(self.best)

    def row(self, method: str) -> MethodRow:
        """Return the row of a method that the report has."""
        return next(row for row in self.methods if row.method == method)

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``report.json``."""
        value: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return value

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Return the report that a ``report.json`` of this or an older format holds.

        Raises:
            InvalidInputError: it is of a newer format, lacks something, or holds what is not allowed.
        """
        version = value.get("format_version") if isinstance(value, dict) else None
        if version not in range(1, FORMAT_VERSION + 1):
            raise InvalidInputError(f"report.json has format {version}; this version reads 1 to {FORMAT_VERSION}")
        try:
            report: Self = _adapter().validate_python(_from_format_1(value) if version == 1 else value)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            said = f"lacks {key}" if first["type"] == "missing" else f"has {key}: {first['msg'].lower()}"
            raise InvalidInputError(f"report.json {said}") from error
        return report


@functools.cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(Report)


def _from_format_1(value: dict[str, Any]) -> dict[str, Any]:
    """Return a report of format 1 with today's keys; its p-values are not corrected, its parts of the data left out."""
    rows = [
        {**row, "metrics": {}, "difference_to_probe": gap and {**gap, "p_holm": gap["p"]}}
        for row in value.get("methods", ())
        for gap in [row.get("difference_to_probe")]
    ]
    return {**value, "methods": rows, "slices": []}
