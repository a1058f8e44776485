"""Many fits of one method in one process: every combination of settings, some seeds each."""

import dataclasses
import functools
import io
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope import __version__
from relope.errors import InvalidInputError, StoreError
from relope.probes import Examples, make, method_class
from relope.provenance import digest, write_bytes
from relope.spec import SweepSpec
from relope.store import ActivationStore
from relope.types import Progress

_INNER_SHARE = 0.15
"""Held out for methods that hold out nothing themselves."""
LAYER = "layer"
"""The grid key that is no setting of the method: the block l that is read."""


class SharedStore(ActivationStore):
    """A store that reads what has one row a sample only once, for all fits of a sweep.

    Token states are mapped files, so the fits share those without being told.
    """

    @functools.cached_property
    def _kept(self) -> dict[str, npt.NDArray[np.float32]]:
        return {}

    def last(self, layer: int, rows: Any = None) -> npt.NDArray[np.float32]:
        """Return ``[N, H]`` as `ActivationStore.last` does."""
        if str(layer) not in self._kept:
            self._kept[str(layer)] = super().last(layer)
        return self._kept[str(layer)][self.index.numbers(rows)]

    def answer(self, rows: Any = None) -> npt.NDArray[np.float32]:
        """Return ``[N, H]`` as `ActivationStore.answer` does."""
        if "answer" not in self._kept:
            self._kept["answer"] = super().answer()
        return self._kept["answer"][self.index.numbers(rows)]


@dataclass(frozen=True)
class Run:
    """One fit of a sweep: what the grid chose, at which layer, with which seed."""

    chosen: dict[str, Any]
    settings: dict[str, Any]
    layer: int
    seed: int

    def key(self, method: str, data: str) -> str:
        """Return a digest of everything that decides the fit."""
        return digest([method, data, self.settings, self.layer, self.seed, __version__])


def planned(spec: SweepSpec, layer: int) -> list[Run]:
    """Return every run, those of one layer together.

    Args:
        spec: the grid; ``layer`` in it takes the place of the argument.
        layer: block that is read otherwise.

    Raises:
        InvalidInputError: the method trains nothing, or a setting is unknown or not allowed.
    """
    if not method_class(spec.method).trains:
        raise InvalidInputError(f"{spec.method} trains nothing, so there is nothing to sweep; use `relope predict`")
    fixed = {**spec.set, **({"mode": spec.mode} if spec.mode else {})}
    keys = sorted(spec.grid, key=lambda key: key != LAYER)
    found = []
    for values in itertools.product(*(spec.grid[key] for key in keys)):
        chosen = dict(zip(keys, values, strict=True))
        settings = {**fixed, **{key: value for key, value in chosen.items() if key != LAYER}}
        make(spec.method, settings)
        at = chosen.get(LAYER, layer)
        if type(at) is not int:
            raise InvalidInputError(f"--grid layer={at!r} is no block number; give whole numbers like --grid layer=3,4")
        found += [Run(chosen, settings, at, spec.seed + number) for number in range(spec.seeds)]
    return found


def sweep(
    method: str, runs: Sequence[Run], examples: Sequence[Examples], path: Path, data: str, progress: Progress
) -> tuple[pl.DataFrame, int]:
    """Fit what the file does not have yet; it is rewritten after every fit.

    Args:
        method: CLI name.
        runs: all that is asked for.
        examples: labelled training samples, one object a run.
        path: the Parquet file with one row a run.
        data: digest of samples and labels; rows of other data are dropped from the file.
        progress: told the runs done and asked for.

    Returns:
        The rows of ``runs``, in their order, and how many were fitted now.
    """
    table = _known(path, data)
    done = set(table["key"]) if len(table) else set()
    computed = 0
    for number, (run, labelled) in enumerate(zip(runs, examples, strict=True)):
        progress(number, len(runs))
        if run.key(method, data) not in done:
            row = pl.DataFrame([{**_fit(method, run, labelled), "key": run.key(method, data), "data": data}])
            table = pl.concat([table, row], how="diagonal_relaxed") if len(table) else row
            _write(path, table)
            computed += 1
    progress(len(runs), len(runs))
    order = pl.DataFrame({"key": [run.key(method, data) for run in runs]})
    return order.join(table, on="key", how="left", maintain_order="left"), computed


def _fit(method: str, run: Run, examples: Examples) -> dict[str, Any]:
    """Return the row of one run: settings, inner validation AUC, epochs, seconds."""
    from relope.probes._train import Training, inner_split, rank_auc

    probe = make(method, run.settings)
    begun = time.perf_counter()
    if issubclass(probe.Params, Training):
        probe.fit(examples, seed=run.seed)
        history = probe.history_  # type: ignore[attr-defined]
        found = {"inner_auc": history.auc[history.best], "best_epoch": history.best + 1, "epochs": len(history.auc)}
    else:
        truth = examples.labels > 0
        inner, held = inner_split(examples.groups, truth, _INNER_SHARE, run.seed)
        probe.fit(examples.take(inner), seed=run.seed)
        auc = rank_auc(truth[held], probe.predict_proba(examples.take(held)))
        found = {"inner_auc": auc, "best_epoch": None, "epochs": None}
    settings = probe.Params(**run.settings).model_dump()
    seconds = time.perf_counter() - begun
    return {"method": method, LAYER: run.layer, **settings, "seed": run.seed, **found, "seconds": seconds}


def _known(path: Path, data: str) -> pl.DataFrame:
    if not path.exists():
        return pl.DataFrame()
    try:
        return pl.read_parquet(path).filter(pl.col("data") == data)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise StoreError(f"{path} is no table of a sweep ({error}); delete it or give another --out") from error


def _write(path: Path, table: pl.DataFrame) -> None:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    write_bytes(path, buffer.getvalue())


@dataclass(frozen=True)
class Setting:
    """One combination of the grid over its seeds: mean and deviation of the inner AUC."""

    chosen: dict[str, Any]
    inner_auc: float
    deviation: float
    best_epoch: float | None
    seconds: float


def summarised(runs: Sequence[Run], table: pl.DataFrame) -> list[Setting]:
    """Return one entry a combination, in the order of the grid."""
    return list(_settings(runs, table.to_dicts()))


def _settings(runs: Sequence[Run], rows: Sequence[dict[str, Any]]) -> Iterator[Setting]:
    pairs = zip(runs, rows, strict=True)
    for _, group in itertools.groupby(pairs, key=lambda pair: repr(pair[0].chosen)):
        members = list(group)
        aucs = np.array([row["inner_auc"] for _, row in members])
        epochs = [row["best_epoch"] for _, row in members if row["best_epoch"] is not None]
        yield Setting(
            members[0][0].chosen,
            float(aucs.mean()),
            float(aucs.std(ddof=1)) if len(aucs) > 1 else 0.0,
            float(np.median(epochs)) if epochs else None,
            float(sum(row["seconds"] for _, row in members)),
        )


def shown(
    spec: SweepSpec, settings: Sequence[Setting], n_runs: int, computed: int, path: Path
) -> tuple[str, dict[str, Any]]:
    """Return the outcome's line and facts: the selected combination, and a table of all of them."""
    best = max(settings, key=lambda setting: setting.inner_auc)
    rows = [
        (
            *(str(value) for value in setting.chosen.values()),
            f"{setting.inner_auc:.4f}",
            f"{setting.deviation:.4f}",
            "—" if setting.best_epoch is None else f"{setting.best_epoch:g}",
            f"{setting.seconds:.1f}",
            "← selected" if setting is best else "",
        )
        for setting in settings
    ]
    columns = (*best.chosen, "inner AUC", "sd", "best epoch", "seconds", "")
    picked = {key: value for key, value in best.chosen.items() if key != LAYER}
    layer = best.chosen.get(LAYER, spec.layer)
    flags = [f"--layer {layer}"] if layer else []
    flags += [f"--mode {spec.mode}"] if spec.mode else []
    flags += [f"--set {key}={value}" for key, value in {**spec.set, **picked}.items()]
    command = " ".join([f"relope fit {spec.method} --store {spec.store}", *flags])
    facts = {
        "runs": n_runs,
        "computed": computed,
        "selected": best.chosen,
        "inner_auc": best.inner_auc,
        "settings": [dataclasses.asdict(setting) for setting in settings],
        "fit": command,
        "table": (f"{spec.method}: inner validation AUC, mean of {spec.seeds} seeds", columns, rows),
    }
    return f"{n_runs} runs, {computed} fitted now → {path}\nfit what was selected: {command}", facts
