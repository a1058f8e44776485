"""``scores.parquet`` beside a report: what its numbers are made of, so that reports can be compared and joined."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import InvalidInputError, NotFoundError
from relope.evaluate.numbers.inputs import ReportInputs
from relope.evaluate.numbers.metrics import Bools, Floats

SCORES = "scores.parquet"
KEPT = ("id", "group", "dataset", "split", "correct")
REPORTED = {"small_name", "large_name", "dataset", "provenance", "accuracy_at_is"}
"""What studies and comparisons read of ``report.json``."""

PREFIX = "score "
"""Before the name of each column of scores: ``score probe``, ``score probe@seed1``."""


def per_sample(inputs: ReportInputs) -> pl.DataFrame:
    """Return one row a sample: labels, and the scores of every method and seed."""
    labels = inputs.labels
    frame = labels.select(name for name in KEPT if name in labels.columns).with_columns(
        pl.Series("group", inputs.groups.tolist()), pl.Series("correct", inputs.correct)
    )
    if inputs.large_correct is not None:
        frame = frame.with_columns(pl.Series("large_correct", inputs.large_correct))
    columns = [
        pl.Series(f"{PREFIX}{method.name}@seed{seed}", row, pl.Float64)
        for method in inputs.methods
        for seed, row in zip(method.seeds, method.by_seed, strict=True)
    ]
    return frame.with_columns(columns)


@dataclass(frozen=True)
class Evaluated:
    """A report read back.

    Attributes:
        path: its folder.
        report: ``report.json``.
        samples: ``scores.parquet``.
        scores: method → ``[S, N]``, one row a seed.
    """

    path: Path
    report: dict[str, Any]
    samples: pl.DataFrame
    scores: dict[str, Floats]

    @property
    def ids(self) -> list[str]:
        """Sample ids, in the order of everything else."""
        return self.samples["id"].to_list()

    @property
    def correct(self) -> Bools:
        """``[N]`` verdicts on the small model."""
        return self.samples["correct"].to_numpy()

    @property
    def large_correct(self) -> Bools | None:
        """``[N]`` verdicts on the large model, None when it was not run."""
        return self.samples["large_correct"].to_numpy() if "large_correct" in self.samples.columns else None

    @property
    def groups(self) -> npt.NDArray[np.str_]:
        """``[N]`` groups that are drawn together."""
        return np.asarray(self.samples["group"].to_list(), dtype=np.str_)

    @property
    def model(self) -> str:
        """The small model."""
        return str(self.report["small_name"])

    @property
    def dataset(self) -> str:
        """CLI name of the data set, without what was done to it."""
        return str(self.report["provenance"].get("dataset", self.report["dataset"]))

    def take(self, ids: list[str]) -> "Evaluated":
        """Return the same report on some of its samples, in that order."""
        place = {name: number for number, name in enumerate(self.ids)}
        order = [place[name] for name in ids]
        scores = {name: rows[:, order] for name, rows in self.scores.items()}
        return Evaluated(self.path, self.report, self.samples[order], scores)


def read_report(folder: Path) -> Evaluated:
    """Read a report and its samples.

    Raises:
        NotFoundError: there is no report, or its samples are gone.
        InvalidInputError: a file is damaged, or the samples are those of another report.
    """
    for name in ("report.json", SCORES):
        if not (folder / name).is_file():
            raise NotFoundError(f"{folder} has no {name}; make the report with `relope evaluate --out {folder}`")
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        samples = pl.read_parquet(folder / SCORES)
        n, methods = report["n"], [row["method"] for row in report["methods"]]
        if lacking := REPORTED - set(report):
            raise ValueError(f"report.json lacks {', '.join(sorted(lacking))}")
        samples.select("id", "group", "correct")
    except (ValueError, KeyError, TypeError, pl.exceptions.PolarsError, OSError) as error:
        raise InvalidInputError(f"the report in {folder} cannot be read ({error}); make it again") from error
    _check_samples(folder / SCORES, samples)
    scores: dict[str, list[Floats]] = {}
    for column in samples.columns:
        if column.startswith(PREFIX):
            scores.setdefault(column[len(PREFIX) :].rpartition("@seed")[0], []).append(samples[column].to_numpy())
    if len(samples) != n or set(scores) != set(methods):
        raise InvalidInputError(
            f"{folder}: report.json is about {n:,} samples and {len(methods)} methods, {SCORES} about "
            f"{len(samples):,} and {len(scores)}; they belong to different runs, make the report again"
        )
    return Evaluated(folder, report, samples, {name: np.stack(rows) for name, rows in scores.items()})


def _check_samples(path: Path, samples: pl.DataFrame) -> None:
    """Refuse samples that nothing could be computed from, or not rightly.

    Raises:
        InvalidInputError: ids that come twice, missing verdicts, scores that are not in [0, 1].
    """
    n = len(samples)
    repeated = samples.filter(pl.col("id").is_duplicated() | pl.col("id").is_null())
    if len(repeated):
        raise InvalidInputError(
            f"{path}: {len(repeated):,} of {n:,} rows have an id that is repeated or null "
            f"(first: {repeated['id'][0]}); make the report again"
        )
    for column in samples.iter_columns():
        if column.name in ("correct", "large_correct") and (column.dtype != pl.Boolean or column.null_count()):
            raise InvalidInputError(
                f"{path}: {column.name} is {column.dtype} with {column.null_count():,} of {n:,} missing; "
                "verdicts are true or false, make the report again"
            )
        if column.name.startswith(PREFIX):
            numbers = column.dtype.is_float()
            bad = samples.filter(~column.is_between(0, 1).fill_null(value=False)) if numbers else samples
            if len(bad):
                raise InvalidInputError(
                    f"{path}: {len(bad):,} of {n:,} scores of {column.name.removeprefix(PREFIX)} are not in [0, 1] "
                    f"(first: {bad['id'][0]} has {bad[column.name][0]!r}); a score is P(correct), make the report again"
                )


def perturbation_name(perturbation: Any) -> str:
    """Return what was done to the pictures in a word; ``clean`` for nothing."""
    if not perturbation:
        return "clean"
    if isinstance(perturbation, dict):
        return str(perturbation.get("kind") or perturbation.get("name") or perturbation)
    return str(perturbation)


def find_reports(folders: tuple[str, ...]) -> list[Evaluated]:
    """Read every report in or beneath some folders, in the order given and then by name.

    Raises:
        NotFoundError: a folder holds none.
    """
    found: list[Evaluated] = []
    for name in folders:
        paths = sorted(path.parent for path in Path(name).rglob("report.json"))
        if not paths:
            raise NotFoundError(f"there is no report in {name}; make one with `relope evaluate --out …`")
        found += [read_report(path) for path in paths if path not in [one.path for one in found]]
    return found
