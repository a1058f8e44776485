"""How well does every method route on the embedded default? ``python benchmarks/bench_quality.py [--json]``

Fits every registered method with several seeds on tiny-vl's answers to the tiny benchmark (4,500
training questions, 3,000 test questions), ReLope also without its KL term (β = 0), with ten times
of it, and without LoRA. An AUC is the mean over the seeds; its 95 % interval comes from 1,000
resamples of the test set's images *and* of the seeds, the same ones for every method, so that
differences are paired. There are no goals: the table says what is, for this miniature.

The sampled traces of mot, self-consistency and semantic-entropy and the follow-up of p-true take
the longest to extract; ``--plain`` leaves these methods out. Stores are kept in ``--out`` and used
again. ``--into docs/methods.md`` renews the table there.
"""

import argparse
import json
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from relope import registry, steps
from relope.evaluate.numbers.bootstrap import bootstrap_auc
from relope.probes.examples import Examples
from relope.probes.protocol import make, method_class
from relope.spec import ExtractSpec
from relope.store import ActivationStore
from relope.store.grades import labelled, parsed_answers

RESAMPLES = 1000
REFERENCES = ("probe", "question-confidence")
PAIRS = (("relope", "relope beta=0"), ("relope", "relope beta=0.01"), ("relope", "relope lora=False"))
MARKS = re.compile(r"(<!-- quality -->).*(<!-- /quality -->)", re.DOTALL)
Floats = npt.NDArray[np.float64]


@dataclass
class Scored:
    """One method's test scores ``[S, N]``, a row a seed, and the mean seconds of a fit."""

    scores: Floats
    seconds: float


def variants(plain: bool) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return label → method and settings."""
    names = [n for n in registry.names("methods") if not (plain and getattr(method_class(n), "needs", ""))]
    found: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in names}
    for key, value in (("beta", 0.0), ("beta", 0.01), ("lora", False)):
        if key in method_class("relope").Params.model_fields:
            found[f"relope {key}={value:g}" if key == "beta" else f"relope {key}={value}"] = ("relope", {key: value})
    return found


def stores(out: Path, plain: bool) -> tuple[ActivationStore, ActivationStore]:
    """Extract (or find) the store that methods are fitted on, and the one with traces of the test split."""
    made = [{"split": ("train", "test"), "out": out / "tiny-vl.zarr"}]
    if not plain:
        traced = {"samples": 5, "trace_tokens": 16, "p_true": True, "tokens": "lean", "batch_size": 128}
        made.append({"split": ("test",), "out": out / "tiny-vl-samples.zarr", **traced})
    for asked in made:
        steps.run(ExtractSpec(model="tiny-vl", dataset="tiny", device="cpu", **asked))
    opened = [ActivationStore.open(asked["out"]) for asked in made]
    return opened[0], opened[-1]


def examples(store: ActivationStore, split: str, ids: list[str] | None = None) -> Examples:
    """Return labelled examples of a split, in the order of ids if there are any."""
    rows, correct = labelled(store, (split,), None)
    if ids is not None:
        place = {name: number for number, name in enumerate(store.samples[rows]["id"].to_list())}
        order = np.array([place[name] for name in ids])
        rows, correct = rows[order], correct[order]
    return Examples(store, rows, correct, max(store.layers), grades=parsed_answers(store, rows, None))


def score(name: str, settings: dict[str, Any], train: Examples, test: Examples, seeds: int) -> Scored:
    """Fit with every seed and score the test examples."""
    found, begun = [], time.perf_counter()
    for seed in range(seeds if method_class(name).traits.trains else 1):
        probe = make(name, settings)
        found.append((probe.fit(train, seed=seed) if probe.traits.trains else probe).predict_proba(test))
    seconds = (time.perf_counter() - begun) / len(found)
    return Scored(np.resize(np.stack(found).astype(np.float64), (seeds, len(test))), seconds)


def compare(scored: dict[str, Scored], test: Examples) -> dict[str, dict[str, Any]]:
    """Return label → AUC, intervals and paired differences."""
    seeds = len(next(iter(scored.values())).scores)
    stacked = np.concatenate([one.scores for one in scored.values()])
    resampled = bootstrap_auc(test.labels > 0, stacked, test.groups, RESAMPLES, seed=0)
    drawn = np.stack([auc.resampled for auc in resampled]).reshape(len(scored), seeds, -1)
    picked = np.random.default_rng(1).integers(0, seeds, (seeds, drawn.shape[2]))
    means = dict(zip(scored, np.take_along_axis(drawn, picked[None], 1).mean(1), strict=True))
    aucs = {label: [roc_auc_score(test.labels, row) for row in one.scores] for label, one in scored.items()}

    def difference(first: str, second: str) -> dict[str, Any]:
        low, high = np.percentile(means[first] - means[second], (2.5, 97.5)).tolist()
        value = float(np.mean(aucs[first]) - np.mean(aucs[second]))
        return {"value": value, "ci95": [low, high]}

    report: dict[str, dict[str, Any]] = {}
    for label, one in scored.items():
        versus = {other: difference(label, other) for other in REFERENCES if other != label}
        versus |= {second: difference(first, second) for first, second in PAIRS if first == label and second in scored}
        report[label] = {
            "value": float(np.mean(aucs[label])),
            "goal": "reported",
            "met": True,
            "ci95": np.percentile(means[label], (2.5, 97.5)).tolist(),
            "sd_over_seeds": float(np.std(aucs[label])),
            "minus": versus,
            "seconds": one.seconds,
        }
    return dict(sorted(report.items(), key=lambda item: -item[1]["value"]))


def table(report: dict[str, dict[str, Any]]) -> str:
    """Return the report as a Markdown table."""
    columns = ["method", "AUC", "95 %", "sd", *(f"− {name}" for name in REFERENCES), "fit and score, s"]
    lines = [columns, ["---"] * len(columns)]
    for label, row in report.items():
        versus = [_signed(row["minus"].get(name)) for name in REFERENCES]
        figures = [f"{row['value']:.3f}", _between(row["ci95"]), f"{row['sd_over_seeds']:.3f}"]
        lines.append([label, *figures, *versus, f"{row['seconds']:.1f}"])
    said = ["| " + " | ".join(line) + " |" for line in lines]
    pairs = [(first, second) for first, second in PAIRS if second in report]
    said += ["", *(f"{first} − {second}: {_signed(report[first]['minus'][second])}" for first, second in pairs)]
    return "\n".join(said) + "\n"


def _between(bounds: list[float]) -> str:
    return f"{bounds[0]:.3f}–{bounds[1]:.3f}"


def _signed(found: dict[str, Any] | None) -> str:
    if found is None:
        return "—"
    low, high = found["ci95"]
    return f"{found['value']:+.3f} ({low:+.3f} to {high:+.3f})"


def measure(out: Path, seeds: int, plain: bool) -> dict[str, dict[str, Any]]:
    """Return label → figures."""
    store, traced = stores(out, plain)
    train, test = examples(store, "train"), examples(store, "test")
    sampled = examples(traced, "test", test.table["id"].to_list())
    if not np.array_equal(sampled.labels, test.labels):
        sys.stderr.write("the two stores' greedy answers differ; the traces are compared on labels of their own\n")
    scored = {}
    for label, (name, settings) in variants(plain).items():
        asked = sampled if getattr(method_class(name), "needs", "") else test
        scored[label] = score(name, settings, train, asked, seeds)
        sys.stderr.write(f"{label}: {scored[label].seconds:.1f} s a seed\n")
    return compare(scored, test)


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print {name: {value, goal, met, …}}")
    parser.add_argument("--seeds", type=int, default=5, help="fits of every trained method")
    parser.add_argument("--plain", action="store_true", help="leave out methods that need traces or P(True)")
    parser.add_argument("--into", type=Path, help="also put the table between the quality marks of this page")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-quality"), help="where the stores are kept")
    asked = parser.parse_args()
    report = measure(asked.out, asked.seeds, asked.plain)
    if asked.into:
        page = asked.into.read_text(encoding="utf-8")
        marked = MARKS.sub(lambda found: f"{found[1]}\n{table(report)}{found[2]}", page)
        asked.into.write_text(marked, encoding="utf-8")
    sys.stdout.write(json.dumps(report, indent=2) + "\n" if asked.json else table(report))


if __name__ == "__main__":
    main()
