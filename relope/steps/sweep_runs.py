"""The runs of a sweep: many fits of one method in one process, every combination of settings, some seeds each."""

import itertools
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope import registry
from relope.command_line import now
from relope.errors import InvalidInputError, StoreError
from relope.evaluate.numbers.estimates import Estimate, mean_of
from relope.evaluate.numbers.heldout import HELD, held_out, resample_runs
from relope.probes.examples import Examples
from relope.probes.protocol import KeepsHistory, Probe, fresh, make, method_class
from relope.provenance import digest, write_frame
from relope.store import RowReader
from relope.types import Progress

_INNER_SHARE = 0.15
"""Held out for methods that hold out nothing themselves."""
FORMAT_VERSION = 2
"""Of the table; 2 keeps what each run held out."""

LAYER = "layer"
"""The grid key that is no setting of the method: the block l that is read."""


@dataclass(frozen=True)
class Run:
    """One fit of a sweep: what the grid chose, the unfitted method, at which layer, with which seed."""

    chosen: dict[str, Any]
    settings: dict[str, Any]
    probe: Probe
    layer: int
    seed: int

    def key(self, method: str, data: str) -> str:
        """Return a digest of everything that decides the fit."""
        return digest([method, data, self.settings, self.layer, self.seed])


def data_digest(
    version: int, method: str, store: RowReader, rows: npt.NDArray[np.int64], correct: npt.NDArray[np.bool_]
) -> str:
    """Return a digest of what all runs learn from (ids and contents of samples, grades) and of what fits them."""
    fitted_by = [FORMAT_VERSION, version, registry.version("methods", method)]
    samples = store.samples[rows].select("id", "content").rows()
    return digest([fitted_by, store.recipe_id, samples, correct.tolist()])


@dataclass(frozen=True)
class Grid:
    """What a sweep varies.

    Attributes:
        method: CLI name.
        values: setting (or ``layer``) → its values.
        fixed: settings of all runs.
        seeds: fits of each combination.
        first_seed: the first of the seeds.
    """

    method: str
    values: Mapping[str, Sequence[Any]]
    fixed: Mapping[str, Any]
    seeds: int
    first_seed: int


def planned(grid: Grid, layer: int) -> list[Run]:
    """Return every run, those of one layer together.

    Args:
        grid: what varies; ``layer`` in it stands above the argument.
        layer: block that is read otherwise.

    Raises:
        InvalidInputError: the method trains nothing, or a setting is unknown or not allowed.
    """
    if not method_class(grid.method).traits.trains:
        raise InvalidInputError(f"{grid.method} trains nothing, so nothing can be swept", hint="use `relope predict`")
    if both := sorted({*grid.values} & {*grid.fixed}):
        raise InvalidInputError(
            f"{both[0]} is fixed at {grid.fixed[both[0]]} and to be varied over {list(grid.values[both[0]])}",
            hint="give it by --set or by --grid, not by both",
        )
    keys = sorted(grid.values, key=lambda key: key != LAYER)
    runs = []
    for values in itertools.product(*(grid.values[key] for key in keys)):
        chosen = dict(zip(keys, values, strict=True))
        settings = {**grid.fixed, **{key: value for key, value in chosen.items() if key != LAYER}}
        block = chosen.get(LAYER, layer)
        if type(block) is not int:
            raise InvalidInputError(f"layer={block!r} is no block number", hint="e.g. --grid layer=3,4")
        seeds = range(grid.first_seed, grid.first_seed + grid.seeds)
        runs += [Run(chosen, settings, make(grid.method, settings), block, seed) for seed in seeds]
    return runs


Fits = Callable[[Sequence[int]], Generator[tuple[int, dict[str, Any]], None, None]]
"""Numbers of runs → number and row of each, in the order in which the fits end."""


def fits_here(method: str, runs: Sequence[Run], examples: Sequence[Examples]) -> Fits:
    """Return what fits runs in this process, one after another, each on labelled training samples of its own."""

    def fits(numbers: Sequence[int]) -> Generator[tuple[int, dict[str, Any]], None, None]:
        for number in numbers:
            yield number, _fit(method, runs[number], examples[number])

    return fits


def fit_runs(
    method: str,
    runs: Sequence[Run],
    fits: Fits,
    path: Path,
    data: str,
    told: Mapping[str, Any],
    progress: Progress,
) -> tuple[pl.DataFrame, int]:
    """Fit what the file does not have yet; it is rewritten after every fit.

    Args:
        method: CLI name.
        runs: all that is asked for.
        fits: where they are fitted; asked for nothing when all are there.
        path: the Parquet file with one row a run.
        data: from ``data_digest``; rows of other data are dropped from the file.
        told: column → value that each run is recorded with: the grader, the command line, the samples.
        progress: told the runs done and asked for.

    Returns:
        The rows of ``runs``, in their order, and how many were fitted now.
    """
    table, keys = _known(path, data), [run.key(method, data) for run in runs]
    done = set(table["key"]) if len(table) else set()
    missing = [number for number, key in enumerate(keys) if key not in done]
    n_done = len(runs) - len(missing)
    progress(n_done, len(runs))
    if missing:
        with closing(fits(missing)) as rows:
            for number, fitted in rows:
                facts = {**told, "date": now(), "key": keys[number], "data": data}
                row = pl.DataFrame([{**fitted, **facts}], schema_overrides=HELD)
                table = pl.concat([table, row], how="diagonal_relaxed") if len(table) else row
                write_frame(path, table)
                n_done += 1
                progress(n_done, len(runs))
    order = pl.DataFrame({"key": keys})
    return order.join(table, on="key", how="left", maintain_order="left"), len(missing)


def _fit(method: str, run: Run, examples: Examples) -> dict[str, Any]:
    """Return the row of one run: settings, inner validation AUC, epochs, seconds, and what was held out."""
    from relope.probes.train import TrainSettings, inner_split

    probe, truth, groups = fresh(run.probe), examples.labels > 0, examples.groups
    own = isinstance(probe.params, TrainSettings) and probe.params.members == 1  # fits of an ensemble hold out others
    own_share = probe.params.inner_share if own else None
    inner, held = inner_split(groups, truth, own_share or _INNER_SHARE, run.seed)
    begun = time.perf_counter()
    probe.fit(examples if own_share else examples.take(inner), seed=run.seed)
    seconds = time.perf_counter() - begun
    scores = probe.predict_proba(examples.take(held))
    recorded = examples.store.manifest.recorded
    return {
        "model": recorded["model"],
        "dataset": recorded["dataset"],
        "method": method,
        LAYER: run.layer,
        **probe.params.model_dump(),
        "seed": run.seed,
        **_judged(probe, truth[held], scores),
        "seconds": seconds,
        **held_out(groups, truth, held, scores),
    }


def _judged(probe: Probe, truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]) -> dict[str, float | None]:
    """Return what a fit is judged by: the history of one that stops early, else its scores of what was held out."""
    from relope.probes.train import rank_auc

    if not isinstance(probe, KeepsHistory):
        return {"inner_auc": rank_auc(truth, scores), "best_epoch": None, "n_epochs": None}
    history = probe.history_
    return {"inner_auc": history.auc[history.best], "best_epoch": history.best + 1, "n_epochs": len(history.auc)}


def _known(path: Path, data: str) -> pl.DataFrame:
    if not path.exists():
        return pl.DataFrame()
    try:
        return pl.read_parquet(path).filter(pl.col("data") == data)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise StoreError(f"{path} is no table of a sweep ({error})", hint="delete it or give another --out") from error


@dataclass(frozen=True)
class Setting:
    """One combination of the grid over its seeds.

    Attributes:
        inner_auc: mean over the seeds.
        ci95: of that mean, from draws of image groups that all settings share; None where undefined.
        deviation: standard deviation over the seeds; None for one seed, which shows nothing.
        n_held: fewest and most samples that a run held out.
        n_minority: image groups with the rarer class that a run held out, where they are fewest.
    """

    chosen: dict[str, Any]
    inner_auc: float
    ci95: tuple[float, float] | None
    deviation: float | None
    n_held: tuple[int, int]
    n_minority: int
    best_epoch: float | None
    seconds: float


def summarised(runs: Sequence[Run], table: pl.DataFrame) -> list[Setting]:
    """Return one entry a combination, in the order of the grid."""
    drawn = resample_runs(table)
    numbers = table.with_columns(n_held=pl.col("held_score").list.len()).drop(HELD)
    return list(_settings(runs, numbers.to_dicts(), drawn))


def _settings(runs: Sequence[Run], rows: Sequence[dict[str, Any]], drawn: Sequence[Estimate]) -> Iterator[Setting]:
    parts = zip(runs, rows, drawn, strict=True)
    for _, group in itertools.groupby(parts, key=lambda part: repr(part[0].chosen)):
        members = list(group)
        aucs = np.array([row["inner_auc"] for _, row, _ in members])
        epochs = [row["best_epoch"] for _, row, _ in members if row["best_epoch"] is not None]
        n_held = [row["n_held"] for _, row, _ in members]
        mean = mean_of([resampled for _, _, resampled in members])
        yield Setting(
            chosen=members[0][0].chosen,
            inner_auc=float(aucs.mean()),
            ci95=mean.ci95,
            deviation=float(aucs.std(ddof=1)) if len(aucs) > 1 else None,
            n_held=(min(n_held), max(n_held)),
            n_minority=mean.n_minority,
            best_epoch=float(np.median(epochs)) if epochs else None,
            seconds=float(sum(row["seconds"] for _, row, _ in members)),
        )
