"""The step ``sweep``: every combination of a grid fitted, and one selected on inner validation."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from relope.probes.examples import Examples
from relope.probes.protocol import block_use, make, pick_layer
from relope.spec import SweepSpec
from relope.steps.outputs import sweep_path
from relope.steps.reopen import device_here, ensure_block, open_streams
from relope.steps.step import Step
from relope.steps.sweep_runs import LAYER, Grid, Setting, data_digest, fit_runs, planned, summarised
from relope.store import open_store
from relope.store.grades import apart, labelled, parsed_answers
from relope.types import Outcome, TextTable, Watch

VERSION = 1


def output(spec: SweepSpec) -> Path:
    """Return the file of the table of all runs."""
    return spec.out or sweep_path(spec.store, spec.method)


def run(spec: SweepSpec, watch: Watch) -> Outcome:
    """Fit every combination of a grid and select one on inner validation."""
    from relope.probes.parallel import check_launch

    check_launch(streamed=False)
    path, store = output(spec), open_store(spec.store, keep_rows=True)
    grid = Grid(spec.method, spec.grid, spec.set, spec.seeds, spec.seed)
    runs = planned(grid, max(store.layers) if spec.layer is None else spec.layer)
    rows, correct = labelled(store, spec.split, spec.grades)
    kept = apart(store, rows)
    rows, correct = rows[kept], correct[kept]
    probes = [make(spec.method, run_.settings) for run_ in runs]
    for run_, probe in zip(runs, probes, strict=True):
        pick_layer(store, probe, run_.layer)
    for run_, probe in zip(runs, probes, strict=True):
        ensure_block(store, probe, run_.layer)
    streamed = any(block_use(probe) == "streamed" for probe in probes)
    streams, device = open_streams(store, spec.device) if streamed else None, device_here(spec.device)
    parsed = parsed_answers(store, rows, spec.grades)
    examples = [Examples(store, rows, correct, run_.layer, streams, device, parsed) for run_ in runs]
    data = data_digest(VERSION, spec.method, store, rows, correct)
    with watch(f"sweep {spec.method}") as progress:
        table, computed = fit_runs(spec.method, runs, examples, path, data, progress)
    return _told(spec, summarised(runs, table), len(runs), computed, path)


def _told(spec: SweepSpec, settings: Sequence[Setting], n_runs: int, computed: int, path: Path) -> Outcome:
    """Return what is told of a sweep: the selected combination, and a table of all of them."""
    best = max(settings, key=lambda setting: setting.inner_auc)
    command = _fit_command(spec, best)
    facts = {
        "runs": n_runs,
        "computed": computed,
        "selected": best.chosen,
        "inner_auc": best.inner_auc,
        "settings": [dataclasses.asdict(setting) for setting in settings],
        "fit": command,
    }
    text = f"{n_runs} runs, {computed} fitted now → {path}\nfit what was selected: {command}"
    return Outcome(path, not computed, text, facts, (_table(spec, settings, best),))


def _fit_command(spec: SweepSpec, best: Setting) -> str:
    layer = best.chosen.get(LAYER, spec.layer)
    chosen = {key: value for key, value in best.chosen.items() if key != LAYER}
    flags = [f"--layer {layer}"] if layer else []
    flags += [f"--set {key}={value}" for key, value in {**spec.set, **chosen}.items()]
    return " ".join([f"relope fit {spec.method} --store {spec.store}", *flags])


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


STEP = Step(run, output, version=VERSION)
