"""How well does every method route on the testbeds? ``python benchmarks/bench_quality.py [--json] [--quick]``

Fits every registered method with several seeds on tiny-vl's answers to the tiny benchmark (4,500
training questions, 3,000 test questions), ReLope also without its KL term (β = 0), with ten times
of it, and without LoRA. An AUC is the mean over the seeds; its 95 % interval comes from 2,000
resamples of the test set's images *and* of the seeds, the same ones for every method, so that
differences are paired. There are no goals: the table says what is, for this miniature. In JSON, differences and the
seconds of a fit are figures of their own. Two tables follow: each stack against every single method that knows no more
than it, with Holm's correction over all of these comparisons, and a learning curve, the same AUC from
a quarter and half of the training questions.

``--premise CHECKPOINT`` does the same on the second testbed, whose model ``recipes/premise.py`` trains:
1,000 training and 1,500 test questions, the methods that need no traces.

The sampled traces of mot, self-consistency and semantic-entropy and the follow-up of p-true take
the longest to extract; ``--plain`` leaves these methods out. Stores and scores are kept in ``--out`` and used
again, so that a run that was stopped goes on. ``--into docs/methods.md`` renews the tables there; ``--only
METHOD,…`` measures some methods beside the two references, and prints their rows. With ``--quick`` 60 questions of
each split and one seed show that everything runs, in a temporary folder.
"""

import hashlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from figures import Figure, machine, parser, show, shown
from sklearn.metrics import roc_auc_score

from relope import registry, steps
from relope.evaluate.numbers.bootstrap import bootstrap_auc
from relope.evaluate.numbers.estimates import difference
from relope.evaluate.numbers.significance import Comparison, compared
from relope.probes.examples import Examples
from relope.probes.protocol import make, method_class
from relope.spec import ExtractSpec
from relope.store import ActivationStore
from relope.store.grades import labelled, parsed_answers

RESAMPLES = 2000
REFERENCES = ("probe", "question-confidence")
PAIRS = (("relope", "relope beta=0"), ("relope", "relope beta=0.01"), ("relope", "relope lora=False"))
MEMBERS = {"probe": 5, "attention-probe": 5, "posthoc": 5}
"""Methods that are measured as ensembles too, and of how many fits."""

STACKS = ("fusion", "fusion-prefill")
"""Methods that are held against every single one that knows no more than they do."""

CURVE = ("probe", "attention-probe", "posthoc", "question-confidence")
"""Methods of the learning curve: those whose fits are cheap."""

PREMISE = {"train": 1000, "test": 1500}
MARKS = "(<!-- {0} -->).*(<!-- /{0} -->)"
RECIPES = Path(__file__).parents[1] / "recipes"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """One method's test scores ``[S, N]``, a row a seed, and the seconds of fitting and scoring, one a fit."""

    scores: Floats
    seconds: list[float]


@dataclass(frozen=True)
class Quality:
    """How well one method routes: its AUC, and by how much that exceeds others'."""

    auc: Figure
    sd_over_seeds: float
    minus: dict[str, Figure]
    seconds: Figure


@dataclass(frozen=True)
class Bed:
    """A testbed: a model and the questions that it is asked.

    Args:
        name: also that of its marks in a page.
        model: as ``relope extract --model`` takes it.
        dataset: as ``--dataset`` takes it.
        plain: the methods that need traces or P(True) are left out.
    """

    name: str
    model: str
    dataset: str
    plain: bool


def beds(out: Path, plain: bool, checkpoint: Path | None, limit: int | None) -> list[Bed]:
    """Return the testbeds; the questions of the second are written where they are not yet."""
    beds = [Bed("quality", "tiny-vl", "tiny", plain)]
    if checkpoint is not None:
        sys.path.insert(0, str(RECIPES))
        from premise_data import write

        sizes = {split: min(n, limit or n) for split, n in PREMISE.items()}
        file = out / "premise-data-{train}-{test}".format(**sizes) / "questions.jsonl"
        if not file.is_file():
            write(file.parent, checkpoint, "image-first", sizes)
        beds.append(Bed("quality premise", str(checkpoint), str(file), plain=True))
    return beds


def variants(plain: bool, only: Sequence[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return label → method and settings: of all methods, or of some and the references."""
    names = [n for n in registry.names("methods") if not (plain and method_class(n).traits.needs)]
    asked: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in names}
    for key, value in (("beta", 0.0), ("beta", 0.01), ("lora", False)):
        if key in method_class("relope").Params.model_fields:
            asked[f"relope {key}={value:g}" if key == "beta" else f"relope {key}={value}"] = ("relope", {key: value})
    asked |= {f"{name} members={n}": (name, {"members": n}) for name, n in MEMBERS.items()}
    return {label: one for label, one in asked.items() if not only or one[0] in {*only, *REFERENCES}}


def stores(out: Path, bed: Bed, limit: int | None) -> tuple[ActivationStore, ActivationStore]:
    """Extract (or find) the store that methods are fitted on, and the one with traces of the test split."""
    name = Path(bed.model).name
    made = [{"split": ("train", "test"), "out": out / f"{name}.zarr"}]
    if not bed.plain:
        traced = {"samples": 5, "trace_tokens": 16, "p_true": True, "tokens": "lean", "batch_size": 128}
        made.append({"split": ("test",), "out": out / f"{name}-samples.zarr", **traced})
    for asked in made:
        about = {"max_new_tokens": 8} if bed.dataset != "tiny" else {}
        steps.run(ExtractSpec(model=bed.model, dataset=bed.dataset, device="cpu", limit=limit, **about, **asked))
    opened = [ActivationStore.open(asked["out"]) for asked in made]
    return opened[0], opened[-1]


def examples(store: ActivationStore, split: str, ids: list[str] | None = None) -> Examples:
    """Return labelled examples of a split, in the order of ids if there are any."""
    rows, correct = labelled(store, (split,), None)
    if ids is not None:
        row_of = {name: row for row, name in enumerate(store.samples[rows]["id"].to_list())}
        order = np.array([row_of[name] for name in ids])
        rows, correct = rows[order], correct[order]
    return Examples(store, rows, correct, max(store.layers), grades=parsed_answers(store, rows, None))


def score(name: str, settings: dict[str, Any], train: Examples, test: Examples, seeds: int, kept: Path) -> Scored:
    """Fit with every seed and score the test examples, unless a folder keeps the scores of these very fits."""
    about = [name, registry.load("methods", name).VERSION, settings, seeds, train.store.content_id, len(train)]
    about += [test.store.content_id, len(test)]
    file = kept / f"{name}-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}.npz"
    if file.is_file():
        with np.load(file) as opened:
            return Scored(opened["scores"], opened["seconds"].tolist())
    scores, seconds = [], []
    for seed in range(seeds if method_class(name).traits.trains else 1):
        begun = time.perf_counter()
        probe = make(name, settings)
        scores.append((probe.fit(train, seed=seed) if probe.traits.trains else probe).predict_proba(test))
        seconds.append(time.perf_counter() - begun)
    scored = Scored(np.resize(np.stack(scores).astype(np.float64), (seeds, len(test))), seconds)
    kept.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, scores=scored.scores, seconds=np.array(seconds))
    partial.rename(file)
    return scored


@dataclass(frozen=True)
class Bootstrapped:
    """AUCs of several methods over the same resamples of images and seeds.

    Args:
        values: label → AUC of each seed.
        drawn: label → AUC of each resample, the mean over drawn seeds.
    """

    values: dict[str, list[float]]
    drawn: dict[str, Floats]

    def minus(self, first: str, second: str) -> Figure:
        """Return how far one AUC is above another, with a paired 95 % interval."""
        value = float(np.mean(self.values[first]) - np.mean(self.values[second]))
        return Figure(value, *np.percentile(self.drawn[first] - self.drawn[second], (2.5, 97.5)).tolist())


def bootstrapped(scored: dict[str, Scored], test: Examples) -> Bootstrapped:
    """Return the AUCs of methods over shared resamples."""
    seeds = len(next(iter(scored.values())).scores)
    stacked = np.concatenate([method.scores for method in scored.values()])
    resampled = bootstrap_auc(test.labels > 0, stacked, test.groups, RESAMPLES, seed=0)
    drawn = np.stack([auc.resampled for auc in resampled]).reshape(len(scored), seeds, -1)
    picked = np.random.default_rng(1).integers(0, seeds, (seeds, drawn.shape[2]))
    means = np.take_along_axis(drawn, picked[None], 1).mean(1)
    values = {label: [roc_auc_score(test.labels, row) for row in method.scores] for label, method in scored.items()}
    return Bootstrapped(values, dict(zip(scored, means, strict=True)))


def compare(scored: dict[str, Scored], aucs: Bootstrapped) -> dict[str, Quality]:
    """Return label → AUC, intervals and paired differences, the best first."""
    report: dict[str, Quality] = {}
    for label, method in scored.items():
        minus = {other: aucs.minus(label, other) for other in REFERENCES if other != label}
        minus |= {second: aucs.minus(first, second) for first, second in PAIRS if first == label and second in scored}
        ends = np.percentile(aucs.drawn[label], (2.5, 97.5)).tolist()
        auc = Figure(float(np.mean(aucs.values[label])), *ends)
        report[label] = Quality(auc, float(np.std(aucs.values[label])), minus, shown(method.seconds))
    return dict(sorted(report.items(), key=lambda item: -item[1].auc.value))


def stacks_against(aucs: Bootstrapped) -> dict[tuple[str, str], Comparison]:
    """Return (stack, single method) → how far it is above, Holm's correction over all of them."""
    singles = [label for label in aucs.values if label in registry.names("methods") and label not in STACKS]
    differences = {}
    for stack in (label for label in STACKS if label in aucs.values):
        for single in singles:
            if method_class(stack).traits.reads_answer or not method_class(single).traits.reads_answer:
                first, second = (float(np.mean(aucs.values[label])) for label in (stack, single))
                differences[stack, single] = difference(first, second, aucs.drawn[stack], aucs.drawn[single])
    return compared(differences)


def stacks_table(comparisons: dict[tuple[str, str], Comparison]) -> str:
    """Return the comparisons as a Markdown table, the closest methods of each stack first."""
    columns = ["stack", "against", "difference (95 %)", f"Holm's p of {len(comparisons)}", "verdict"]
    lines = [columns, ["---"] * len(columns)]
    for (stack, single), gap in sorted(comparisons.items(), key=lambda item: (item[0][0], item[1].value)):
        low, high = gap.ci95
        lines.append([stack, single, f"{gap.value:+.3f} ({low:+.3f} to {high:+.3f})", f"{gap.p_holm:.3f}", gap.verdict])
    return _rows(lines)


def figures_of(measured: "Measured") -> dict[str, Figure]:
    """Return what was measured as figures of the one form that all benchmarks have."""
    figures = {f"{a} - {b}: Holm's p": shown(gap.p_holm) for (a, b), gap in measured.stacks.items()}
    for label, quality in measured.whole.items():
        figures[label] = quality.auc
        figures |= {f"{label} - {other}": figure for other, figure in quality.minus.items()}
        figures |= {f"{label}: sd over seeds": shown(quality.sd_over_seeds), f"{label}: seconds": quality.seconds}
    return figures


def table(report: dict[str, Quality]) -> str:
    """Return the report as a Markdown table."""
    columns = ["method", "AUC", "95 %", "sd", *(f"− {name}" for name in REFERENCES), "fit and score, s"]
    lines = [columns, ["---"] * len(columns)]
    for label, quality in report.items():
        auc, sd = quality.auc, f"{quality.sd_over_seeds:.3f}"
        minus = [_signed(quality.minus.get(name)) for name in REFERENCES]
        interval = f"{auc.low:.3f}–{auc.high:.3f}"
        lines.append([label, f"{auc.value:.3f}", interval, sd, *minus, f"{quality.seconds.value:.1f}"])
    pairs = [(first, second) for first, second in PAIRS if second in report]
    text = [f"{first} − {second}: {_signed(report[first].minus[second])}" for first, second in pairs]
    return "\n".join([_rows(lines), *text]) + "\n"


def _rows(lines: Sequence[Sequence[str]]) -> str:
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _signed(figure: Figure | None) -> str:
    return "—" if figure is None else f"{figure.value:+.3f} ({figure.low:+.3f} to {figure.high:+.3f})"


@dataclass(frozen=True)
class Measured:
    """What was measured on a testbed.

    Args:
        n: test questions.
        seeds: fits of every trained method.
        by_size: number of training questions → label → how well it routes; with fewer than all a few methods only.
        stacks: (stack, single method) → how far it is above, with all training questions.
    """

    n: int
    seeds: int
    by_size: dict[int, dict[str, Quality]]
    stacks: dict[tuple[str, str], Comparison]

    @property
    def whole(self) -> dict[str, Quality]:
        """Return how well every method routes with all training questions."""
        return self.by_size[max(self.by_size)]


def measure(out: Path, bed: Bed, seeds: int, limit: int | None, only: Sequence[str]) -> Measured:
    """Fit, score and compare on one testbed.

    Args:
        out: where stores and scores are kept.
        bed: the testbed.
        seeds: fits of every trained method.
        limit: at most so many questions of each split.
        only: methods that are measured, with all questions; none = all methods.
    """
    store, traced = stores(out, bed, limit)
    train, test = examples(store, "train"), examples(store, "test")
    sampled = examples(traced, "test", test.table["id"].to_list())
    if not np.array_equal(sampled.labels, test.labels):
        sys.stderr.write("the two stores' greedy answers differ; the traces are compared on labels of their own\n")
    scored, kept = {}, out / "scores"
    for label, (name, settings) in variants(bed.plain, only).items():
        asked = sampled if method_class(name).traits.needs else test
        scored[label] = score(name, settings, train, asked, seeds, kept)
        sys.stderr.write(f"{label}: {np.mean(scored[label].seconds):.1f} s a seed\n")
    aucs = bootstrapped(scored, test)
    by_size = {len(train): compare(scored, aucs)}
    for n in () if only else (len(train) // 2, len(train) // 4):
        some = train.take(np.arange(n))
        fewer = {name: score(name, {}, some, test, seeds, kept) for name in CURVE}
        by_size[n] = compare(fewer, bootstrapped(fewer, test))
    return Measured(len(test), seeds, by_size, stacks_against(aucs))


def text_of(measured: Measured, only: Sequence[str]) -> str:
    """Return the tables of a testbed as Markdown."""
    about = f"n = {measured.n:,} test and {max(measured.by_size):,} training questions, {measured.seeds} seeds.\n"
    tables = [about, table(measured.whole), stacks_table(measured.stacks) if measured.stacks else ""]
    return "\n".join([*filter(None, tables), *([] if only else [curve(measured.by_size)])])


def curve(qualities: dict[int, dict[str, Quality]]) -> str:
    """Return the AUC by number of training questions as a Markdown table."""
    sizes = sorted(qualities)
    lines = [["AUC (95 %) from", *(f"{n:,} questions" for n in sizes)], ["---"] * (1 + len(sizes))]
    for name in CURVE:
        aucs = [qualities[n][name].auc for n in sizes]
        lines.append([name, *(f"{auc.value:.3f} ({auc.low:.3f}–{auc.high:.3f})" for auc in aucs)])
    return _rows(lines)


def main() -> None:
    """Measure and show."""
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=5, help="fits of every trained method")
    options.add_argument("--plain", action="store_true", help="leave out methods that need traces or P(True)")
    options.add_argument("--into", type=Path, help="also put the table between the quality marks of this page")
    options.add_argument("--out", type=Path, default=Path("runs/bench-quality"), help="where the stores are kept")
    options.add_argument("--premise", type=Path, metavar="CHECKPOINT", help="also the second testbed, with this model")
    options.add_argument("--only", metavar="METHOD,…", default="", help="measure these methods, and no learning curve")
    asked = options.parse_args()
    only = [name for name in asked.only.split(",") if name]
    if only and asked.into:
        options.error("--only prints some rows; --into renews whole tables")
    sys.stderr.write(f"{machine()}\n")
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory() as folder:
        out, seeds, limit = (Path(folder), 1, 60) if asked.quick else (asked.out, asked.seeds, None)
        for bed in beds(out, asked.plain, asked.premise, limit):
            measured = measure(out, bed, seeds, limit, only)
            text = text_of(measured, only)
            figures |= {f"{bed.name}: {name}": figure for name, figure in figures_of(measured).items()}
            if asked.into:
                page = asked.into.read_text(encoding="utf-8")
                marks = re.compile(MARKS.format(bed.name), re.DOTALL)
                marked = marks.sub(lambda match, text=text: f"{match[1]}\n{text}{match[2]}", page)
                asked.into.write_text(marked, encoding="utf-8")
            if not asked.json:
                sys.stdout.write(f"{bed.name}\n\n{text}\n")
    if asked.json:
        show(figures, as_json=True)


if __name__ == "__main__":
    main()
