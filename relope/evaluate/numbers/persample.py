"""``scores.parquet`` beside a report: what its numbers are made of, so that reports can be compared and joined."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.asked import ASKED
from relope.errors import InvalidInputError, NotFoundError
from relope.evaluate.numbers.inputs import ReportInputs
from relope.evaluate.numbers.metrics import Bools, Floats
from relope.evaluate.numbers.records import Report
from relope.evaluate.numbers.scarcity import scarcity
from relope.types import ResultWarning, worst_first

REPORT, SCORES = "report.json", "scores.parquet"
KEPT = ("id", "group", "dataset", "split", ASKED, "correct")
PREFIX = "score "
"""Before the name of each column of scores: ``score probe@seed0``, ``score probe@seed1``."""

FURTHER = "large_correct "
"""Before the name of each large model beside the first."""

AGAIN = "make the report again with `relope evaluate`"


def per_sample(inputs: ReportInputs) -> pl.DataFrame:
    """Return one row a sample: labels, and the scores of every method and seed."""
    labels = inputs.labels
    frame = labels.select(name for name in KEPT if name in labels.columns).with_columns(
        inputs.group_names, pl.Series("correct", inputs.correct)
    )
    if inputs.large_correct is not None:
        frame = frame.with_columns(pl.Series("large_correct", inputs.large_correct))
    further = [pl.Series(f"{FURTHER}{large.name}", large.correct) for large in inputs.further]
    frame = frame.with_columns(further)
    columns = [
        pl.Series(f"{PREFIX}{method.name}@seed{seed}", row, pl.Float64)
        for method in inputs.methods
        for seed, row in zip(method.seeds, method.by_seed, strict=True)
    ]
    return frame.with_columns(columns)


@dataclass(frozen=True)
class StoredReport:
    """A report read back, with its samples.

    Attributes:
        path: its folder.
        report: ``report.json``.
        samples: ``scores.parquet``.
        scores: method → ``[S, N]``, one row a seed.
    """

    path: Path
    report: Report
    samples: pl.DataFrame
    scores: dict[str, Floats]

    @property
    def ids(self) -> list[str]:
        """Sample ids, in the order of everything else."""
        return self.samples["id"].to_list()

    @property
    def correct(self) -> Bools:
        """``[N]`` grades of the small model's answers."""
        return self.samples["correct"].to_numpy()

    @property
    def groups(self) -> npt.NDArray[np.str_]:
        """``[N]`` groups that are drawn together."""
        return np.asarray(self.samples["group"].to_list(), dtype=np.str_)

    @property
    def model(self) -> str:
        """The small model."""
        return self.report.small_name

    @property
    def dataset(self) -> str:
        """CLI name of the data set, without what was done to it."""
        return str(self.report.provenance.get("dataset", self.report.dataset))

    @property
    def grader(self) -> str:
        """``grader@version`` that judged the answers; ``""`` where an older relope did not say."""
        return str(self.report.provenance.get("grader") or "")

    @property
    def text_only(self) -> bool:
        """Whether the model saw captions in place of images."""
        return bool(self.report.provenance.get("text_only"))

    @property
    def perturbation(self) -> str:
        """What was done to the images; ``clean`` for nothing."""
        return perturbation_name(self.report.provenance.get("perturbation"))

    @property
    def labels_frozen(self) -> bool:
        """Whether the grades are of the answers to other images."""
        return bool(self.report.provenance.get("labels_frozen"))

    @property
    def transferred(self) -> bool:
        """Whether a method's router was fitted on another recipe."""
        return bool(self.report.provenance.get("transferred"))

    @property
    def out_of_fold(self) -> bool:
        """Whether a method's samples were scored by routers that did not see their group."""
        return bool(self.report.provenance.get("out_of_fold"))

    @property
    def warnings(self) -> tuple[ResultWarning, ...]:
        """What must be said of its numbers, each with the report's folder; worst first."""
        warned = (*self.report.warnings, *scarcity(self.correct, self.groups))
        return tuple(replace(each, text=f"{self.path}: {each.text}") for each in worst_first(warned))

    def take(self, ids: Sequence[str]) -> "StoredReport":
        """Return the same report on some of its samples, in that order."""
        index = {name: number for number, name in enumerate(self.ids)}
        order = [index[name] for name in ids]
        scores = {name: rows[:, order] for name, rows in self.scores.items()}
        return replace(self, samples=self.samples[order], scores=scores)


def read_report(folder: Path) -> Report:
    """Read a report without its samples.

    Raises:
        NotFoundError: there is none.
        InvalidInputError: it is damaged.
    """
    _require(folder / REPORT)
    try:
        return Report.from_json(json.loads((folder / REPORT).read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        raise _unreadable(folder, error) from error


def open_report(folder: Path) -> StoredReport:
    """Read a report and its samples.

    Raises:
        NotFoundError: there is no report, or its samples are gone.
        InvalidInputError: a file is damaged, or the samples are those of another report.
    """
    report = read_report(folder)
    _require(folder / SCORES)
    try:
        samples = pl.read_parquet(folder / SCORES)
        samples.select("id", "group", "correct")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(folder, error) from error
    _check_samples(folder / SCORES, samples)
    scores: dict[str, list[Floats]] = {}
    for column in samples.columns:
        if column.startswith(PREFIX):
            scores.setdefault(column[len(PREFIX) :].rpartition("@seed")[0], []).append(samples[column].to_numpy())
    if len(samples) != report.n or set(scores) != {row.method for row in report.methods}:
        raise InvalidInputError(
            f"{folder}: {REPORT} is about {report.n:,} samples and {len(report.methods)} methods, {SCORES} about "
            f"{len(samples):,} and {len(scores)}; they belong to different runs",
            hint=AGAIN,
        )
    return StoredReport(folder, report, samples, {name: np.stack(rows) for name, rows in scores.items()})


def _require(path: Path) -> None:
    if not path.is_file():
        raise NotFoundError(
            f"{path.parent} has no {path.name}",
            hint="give the folder that `relope evaluate` wrote: STORE.report, or what its --out named",
        )


def _unreadable(folder: Path, error: Exception) -> InvalidInputError:
    return InvalidInputError(f"the report in {folder} cannot be read ({error})", hint=AGAIN)


def _check_samples(path: Path, samples: pl.DataFrame) -> None:
    """Refuse samples that nothing could be computed from, or not rightly.

    Raises:
        InvalidInputError: ids that come twice, missing grades, scores that are not in [0, 1].
    """
    n = len(samples)
    repeated = samples.filter(pl.col("id").is_duplicated() | pl.col("id").is_null())
    if len(repeated):
        raise InvalidInputError(
            f"{path}: {len(repeated):,} of {n:,} rows have an id that is repeated or null (first: {repeated['id'][0]})",
            hint=AGAIN,
        )
    for column in samples.iter_columns():
        if column.name in ("correct", "large_correct") and (column.dtype != pl.Boolean or column.null_count()):
            raise InvalidInputError(
                f"{path}: {column.name} is {column.dtype} with {column.null_count():,} of {n:,} missing; "
                "a grade is true or false",
                hint=AGAIN,
            )
        if column.name.startswith(PREFIX):
            _check_scores(path, samples, column)


def _check_scores(path: Path, samples: pl.DataFrame, scores: pl.Series) -> None:
    bad = samples
    if scores.dtype.is_float():
        bad = samples.filter(~scores.is_between(0, 1).fill_null(value=False))
    if len(bad):
        raise InvalidInputError(
            f"{path}: {len(bad):,} of {len(samples):,} scores of {scores.name.removeprefix(PREFIX)} are not in [0, 1] "
            f"(first: {bad['id'][0]} has {bad[scores.name][0]!r}); a score is P(correct)",
            hint=AGAIN,
        )


def perturbation_name(perturbation: Any) -> str:
    """Return what was done to the images in a word; ``clean`` for nothing."""
    if not perturbation:
        return "clean"
    if isinstance(perturbation, dict):
        return str(perturbation.get("kind") or perturbation.get("name") or perturbation)
    return str(perturbation)


def find_reports(folders: Sequence[str]) -> list[StoredReport]:
    """Read every report in or beneath some folders, in the order given and then by name.

    Raises:
        NotFoundError: a folder holds none.
    """
    reports: dict[Path, StoredReport] = {}
    for name in folders:
        paths = sorted(path.parent for path in Path(name).rglob(REPORT))
        if not paths:
            raise NotFoundError(f"there is no report in {name}", hint="make one with `relope evaluate --out …`")
        reports |= {path: open_report(path) for path in paths if path not in reports}
    return list(reports.values())
