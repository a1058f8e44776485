"""What steps give back in Python: an outcome that also opens what the step wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relope.types import Outcome

if TYPE_CHECKING:
    import polars as pl

    from relope.evaluate.numbers.records import Report
    from relope.probes.router import Router
    from relope.serve.bundle import Bundle
    from relope.store import ActivationStore


@dataclass(frozen=True)
class Extracted(Outcome):
    """A store that was written or was complete already."""

    @property
    def store(self) -> "ActivationStore":
        """The store, opened anew each time."""
        from relope.store import open_store

        return open_store(self.path)

    @property
    def samples(self) -> "pl.DataFrame":
        """One row a sample."""
        return self.store.samples


@dataclass(frozen=True)
class Graded(Outcome):
    """Grades of the answers of a store, or of a file."""

    @property
    def grades(self) -> "pl.DataFrame":
        """One row an answer: correct, parsed, parse_status; of a store also id and split."""
        import polars as pl

        return pl.read_parquet(self.path) if self.payload is None else pl.DataFrame(self.payload)


@dataclass(frozen=True)
class Imported(Outcome):
    """Stores of answers that other tools have got, one a model."""

    @property
    def stores(self) -> "Mapping[str, ActivationStore]":
        """Model → its store, opened anew each time."""
        from relope.store import open_store

        return {made["model"]: open_store(made["path"]) for made in self.facts["stores"]}


@dataclass(frozen=True)
class Fitted(Outcome):
    """A router, or with folds the scores of routers that were not kept."""

    @property
    def router(self) -> "Router":
        """The fitted router."""
        from relope.probes.router import load_router

        return load_router(self.path)


@dataclass(frozen=True)
class Scored(Outcome):
    """Scores of a store's samples."""

    @property
    def scores(self) -> "pl.DataFrame":
        """One row a sample: id and ``score``, its P(correct)."""
        import polars as pl

        return pl.read_parquet(self.path)


@dataclass(frozen=True)
class Calibrated(Outcome):
    """A bundle."""

    @property
    def bundle(self) -> "Bundle":
        """The bundle, every file of it checked."""
        from relope.serve.bundle import load_bundle

        return load_bundle(self.path)


@dataclass(frozen=True)
class Swept(Outcome):
    """The runs of a sweep."""

    @property
    def runs(self) -> "pl.DataFrame":
        """One row a run: settings, seed, inner validation AUC, epochs, seconds."""
        import polars as pl

        return pl.read_parquet(self.path)


@dataclass(frozen=True)
class Evaluated(Outcome):
    """A report."""

    @property
    def methods(self) -> "pl.DataFrame":
        """One row a method, best first: n, AUC with its 95 % interval, the difference to the probe."""
        import polars as pl

        return pl.read_csv(self.path / "tables" / "methods.csv")

    @property
    def report(self) -> "Report":
        """The report, typed."""
        from relope.evaluate.report import read_report

        return read_report(self.path)

    @property
    def curves(self) -> Mapping[str, Sequence[float | None]]:
        """Method → accuracy when 0, 1 … 100 % are escalated; without a large model, on what is kept."""
        return self.report.curves

    @property
    def samples(self) -> "pl.DataFrame":
        """One row a test sample: whether each model is right, and every method's P(correct)."""
        import polars as pl

        return pl.read_parquet(self.path / "scores.parquet")
