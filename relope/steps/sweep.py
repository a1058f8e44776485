"""The step ``sweep``: every combination of a grid fitted, and one selected on inner validation."""

import dataclasses
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relope.cluster.crew import check_settings as check_engine
from relope.command_line import command_line, to_type
from relope.errors import InvalidInputError, NotFoundError, RelopeError
from relope.evaluate.numbers.scarcity import held_out_scarcity
from relope.probes.examples import Examples
from relope.probes.protocol import check_method, check_settings, pick_layer
from relope.spec import SweepSpec, build
from relope.steps.outcomes import Swept
from relope.steps.outputs import sweep_path
from relope.steps.reopen import device_here, open_block
from relope.steps.samples import Selection, TrainingRows, training_rows
from relope.steps.step import Step
from relope.steps.sweep_runs import (
    LAYER,
    Fits,
    Grid,
    Run,
    Setting,
    data_digest,
    fit_runs,
    fits_here,
    planned,
    summarised,
)
from relope.steps.tracking import check_tracker, run_name, tracked
from relope.store import RowReader
from relope.types import TextTable, Watch
from relope.words import counted

VERSION = 1
WORKER = "relope.steps.sweep_worker:Worker"
"""What the workers of a cluster fit by; that file reads this one, so it is named and not imported."""

OF_CLUSTER = ("address", "workers", "gpus_per_worker")
"""Settings that say which cluster, and how much of it: they decide no number."""


def output(spec: SweepSpec) -> Path:
    """Return the file of the table of all runs."""
    return spec.out or sweep_path(spec.store, spec.method)


def check(spec: SweepSpec) -> None:
    """Refuse methods that train nothing, and settings that the method, the engine or the tracker does not have."""
    check_tracker(spec)
    planned(_grid(spec), spec.layer or 1)
    _check_engine(spec)


def _check_engine(spec: SweepSpec) -> None:
    check_engine(spec.engine, {name: getattr(spec, name) for name in OF_CLUSTER})
    if spec.engine == "ray" and spec.device != "auto":
        raise InvalidInputError(
            "device is not for the engine ray: Ray gives each worker its cards", hint="drop --device"
        )


@dataclass(frozen=True)
class Bench:
    """What the runs of a sweep are fitted from.

    Attributes:
        training: the samples and their grades.
        runs: all combinations, with their seeds.
        data: digest of what all of them learn from.
    """

    training: TrainingRows
    runs: list[Run]
    data: str

    def fits(self, method: str, device: str) -> Fits:
        """Return what fits them in this process; the block, or the model, that they need is opened."""
        store, training = self.training.store, self.training
        blocks = [(run.probe, pick_layer(store, run.probe, run.layer)) for run in self.runs]
        streams = open_block(store, blocks, device)
        examples = [
            Examples(store, training.rows, training.correct, layer, streams, device, training.parsed)
            for _, layer in blocks
        ]
        return fits_here(method, self.runs, examples)


def bench_of(spec: SweepSpec) -> Bench:
    """Return what a specification asks for.

    Raises:
        RelopeError: a store, grades, a split or a layer that is not there.
    """
    asked = Selection((spec.store,), spec.split, spec.grades, keep_rows=True)
    training = training_rows(asked, lambda store: _check_holds_states(store, spec))
    runs = planned(_grid(spec), spec.layer or max(training.store.layers, default=1))
    _check_layers(training.store, runs)
    return Bench(training, runs, data_digest(VERSION, spec.method, training.store, training.rows, training.correct))


def run(spec: SweepSpec, watch: Watch) -> Swept:
    """Fit every combination of a grid and select one on inner validation."""
    check_tracker(spec)
    check_method(spec.method)
    check_settings(spec.method, {key: None for key in (*spec.set, *spec.grid) if key != LAYER})
    _check_engine(spec)
    bench, path = bench_of(spec), output(spec)
    told = {"grader": bench.training.graders[0], "command": command_line(spec), "n_train": len(bench.training.rows)}

    from relope.probes.parallel import process_group

    device = "cpu" if spec.engine == "ray" else device_here(spec.device)
    with process_group(device, shared=False), watch(f"sweep {spec.method}") as progress:
        fits = _fits_on_cluster(spec, bench) if spec.engine == "ray" else bench.fits(spec.method, device)
        table, computed = fit_runs(spec.method, bench.runs, fits, path, bench.data, told, progress)
    settings = summarised(bench.runs, table)
    for setting in settings:
        _track(spec, setting)
    return _told(spec, settings, bench.training, computed, path)


def _track(spec: SweepSpec, setting: Setting) -> None:
    """Tell a tracker one combination of the grid, as a run of its own."""
    chosen = [f"{key}={value}" for key, value in setting.chosen.items()]
    low, high = setting.ci95 or (None, None)
    with tracked(spec, run_name("sweep", spec.method, spec.store, *chosen), setting.chosen) as tell:
        tell(
            {
                "inner/auc": setting.inner_auc,
                "inner/auc_low": low,
                "inner/auc_high": high,
                "inner/auc_sd": setting.deviation,
                "inner/n_fewest": setting.n_held[0],
                "best_epoch": setting.best_epoch,
                "seconds": setting.seconds,
            }
        )


def _fits_on_cluster(spec: SweepSpec, bench: Bench) -> Fits:
    """Return what fits runs on the workers of a Ray cluster; it is joined with the first that is missing."""
    from relope.cluster.crew import Wanted, joined
    from relope.cluster.pool import Pool

    plain = {name: value for name, value in spec.model_dump(mode="json").items() if name not in (*OF_CLUSTER, "engine")}

    def fits(numbers: Sequence[int]) -> Generator[tuple[int, dict[str, Any]], None, None]:
        with joined(Wanted(spec.address, spec.workers, spec.gpus_per_worker)) as crew:
            asked = {"folder": os.getcwd(), "spec": {**plain, "device": "cuda" if crew.gpus else "cpu"}}
            with Pool(crew, WORKER, asked) as pool:
                for number in numbers:
                    run = bench.runs[number]
                    pool.submit(number, [number, run.key(spec.method, bench.data)], f"{run.chosen}, seed {run.seed}")
                while len(pool):
                    for number, row in pool.ended():
                        if isinstance(row, RelopeError):
                            raise row
                        yield number, row

    return fits


def _check_holds_states(store: RowReader, spec: SweepSpec) -> None:
    """Refuse a store of answers only to a method that reads states, before anything is said of its splits."""
    if store.manifest.answers_only:
        for run in planned(_grid(spec), spec.layer or 1):
            pick_layer(store, run.probe, run.layer)


def _check_layers(store: RowReader, runs: Sequence[Run]) -> None:
    """Make sure that the store holds every layer of a grid, before anything is fitted.

    Raises:
        NotFoundError: it lacks some; all of them are named.
    """
    if store.manifest.answers_only:
        return
    needed = sorted({layer for run in runs for layer in run.probe.layers(run.layer)})
    if missing := [layer for layer in needed if layer not in store.layers]:
        lacks, has = (", ".join(map(str, layers)) for layers in (missing, store.layers))
        what = f"layer {lacks} is" if len(missing) == 1 else f"layers {lacks} are"
        raise NotFoundError(
            f"{what} not in {store.label} (has {has})",
            hint=f"sweep layers that it holds, or extract with --layers {','.join(map(str, needed))} into a new --out",
        )


def _grid(spec: SweepSpec) -> Grid:
    return Grid(spec.method, spec.grid, spec.set, spec.seeds, spec.seed)


def _told(spec: SweepSpec, settings: Sequence[Setting], training: TrainingRows, computed: int, path: Path) -> Swept:
    """Return what is told of a sweep: the selected combination, and a table of all of them."""
    best = max(settings, key=lambda setting: setting.inner_auc)
    command, n_runs, grader = _fit_command(spec, best), len(settings) * spec.seeds, training.graders[0]
    facts = {
        "grader": grader,
        "samples": len(training.rows),
        "runs": n_runs,
        "computed": computed,
        "selected": best.chosen,
        "inner_auc": best.inner_auc,
        "settings": [dataclasses.asdict(setting) for setting in settings],
        "fit": command,
    }
    on = f"on {counted(len(training.rows), 'sample')} judged by {grader}"
    text = f"{counted(n_runs, 'run')} {on}, {computed} fitted now → {path}\nfit what was selected: {command}"
    warned = held_out_scarcity(min(setting.n_minority for setting in settings), f"sweep of {spec.method}")
    return Swept(path, not computed, text, facts, (_table(spec, settings, best),), warnings=warned)


def _fit_command(spec: SweepSpec, best: Setting) -> str:
    layer = best.chosen.get(LAYER, spec.layer)
    settings = spec.set | {key: value for key, value in best.chosen.items() if key != LAYER}
    asked = {"method": spec.method, "store": spec.store, "split": spec.split, "grades": spec.grades}
    return to_type(build("fit", {**asked, "layer": layer, "set": settings}))


def _table(spec: SweepSpec, settings: Sequence[Setting], best: Setting) -> TextTable:
    rows = [
        (
            *(str(value) for value in setting.chosen.values()),
            f"{setting.inner_auc:.4f}",
            "—" if setting.ci95 is None else f"{setting.ci95[0]:.4f}–{setting.ci95[1]:.4f}",
            "—" if setting.deviation is None else f"{setting.deviation:.4f}",
            "—" if setting.best_epoch is None else f"{setting.best_epoch:g}",
            f"{setting.seconds:.1f}",
            "← selected" if setting is best else "",
        )
        for setting in settings
    ]
    columns = (*best.chosen, "inner AUC", "95 % interval", "sd", "best epoch", "seconds", "")
    fewest, most = min(s.n_held[0] for s in settings), max(s.n_held[1] for s in settings)
    held = f"{fewest:,}" if fewest == most else f"{fewest:,}–{most:,}"
    title = f"{spec.method}: inner validation AUC, mean of {spec.seeds} seeds, n={held} a run"
    return TextTable(title, columns, rows)


STEP = Step(run, output, version=VERSION, check=check)
