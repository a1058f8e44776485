"""Tables of the trial from what ``premise_fits.py`` left: ``python recipes/premise_tables.py runs/premise/fits``.

Of a method's variants the one with the best mean inner validation AUC counts, chosen for each order, block and number
of training questions; the test split decides nothing. An AUC is the mean over the seeds. Its 95 % interval, and that
of a difference, comes from resamples of test questions *and* of seeds that all methods share. Each claim of the paper
is a family of differences; an interval is also given the Holm verdict within its family.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from premise_rows import ORDERS
from premise_scenes import KINDS
from scipy.sparse import hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from relope.evaluate.numbers.bootstrap import bootstrap_auc
from relope.evaluate.numbers.significance import holm

RESAMPLES = 2000
Floats = npt.NDArray[np.float64]
CLAIMS = {
    "attention-probe > probe": ("attention-probe", "probe"),
    "relope > probe": ("relope", "probe"),
    "relope > attention-probe": ("relope", "attention-probe"),
    "KL > none": ("relope KL", "relope no-KL"),
    "LoRA > none": ("relope LoRA", "relope no-LoRA"),
    "probe > question-confidence": ("probe", "question-confidence"),
}

TEXT = "text-only > multimodal (probe)"
CONTROLS = ("question-kind", "question-confidence", "logprob", "entropy")
METHODS = (
    "probe", "attention-probe", "relope", "relope KL", "relope no-KL", "relope no-LoRA", "posthoc", *CONTROLS
)  # fmt: skip
PARTS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "": lambda variant: variant.is_not_null(),
    "KL": lambda variant: variant.str.contains("lora_lr") & ~variant.str.contains("beta=0 "),
    "no-KL": lambda variant: variant.str.contains("lora_lr") & variant.str.contains("beta=0 "),
    "LoRA": lambda variant: variant.str.contains("lora_lr"),
    "no-LoRA": lambda variant: variant.str.contains("lora=False"),
}
"""Part of a method's variants → which they are."""


@dataclass(frozen=True)
class Drawn:
    """A mean AUC over seeds and its resamples ``[R]``."""

    value: float
    resampled: Floats

    @property
    def text(self) -> str:
        """As a table shows it."""
        low, high = np.percentile(self.resampled, (2.5, 97.5))
        return f"{self.value:.3f} ({low:.3f}–{high:.3f})"


@dataclass(frozen=True)
class Difference:
    """One comparison: its value, 95 % interval and two-sided p by the resamples."""

    value: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, first: Drawn, second: Drawn) -> "Difference":
        """Return a paired difference."""
        drawn = first.resampled - second.resampled
        low, high = np.percentile(drawn, (2.5, 97.5)).tolist()
        tail = (1 + min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))) / (1 + len(drawn))
        return cls(first.value - second.value, low, high, min(1.0, 2 * tail))


class Fits:
    """The fits of one order, and what was answered; of the test questions all, or the first ones."""

    def __init__(self, folder: Path, order: str, n_test: int | None = None) -> None:
        self.answers = pl.read_parquet(folder / f"{order}.answers.parquet")
        self.scores = pl.read_parquet(folder / f"{order}.scores.parquet")
        self.test = self.answers.filter(pl.col("split") == "test")[:n_test]
        self.correct = self.test["correct"].to_numpy()
        self._known: dict[tuple[str, int, int], Drawn | None] = {}

    def sizes(self) -> list[int]:
        """Return the numbers of training questions."""
        return sorted(self.scores["n"].unique())

    def layers(self) -> list[int]:
        """Return the blocks."""
        return sorted(self.scores.filter(pl.col("method") == "probe")["layer"].unique())

    def drawn(self, label: str, layer: int, n: int) -> Drawn | None:
        """Return the AUC of a method, a part of its variants, or a control; None where nothing was fitted."""
        key = (label, layer, n)
        if key not in self._known:
            scores = self._control(label, n) if label in CONTROLS else self._chosen(label, layer, n)
            self._known[key] = None if scores is None else self._resampled(scores)
        return self._known[key]

    def variant(self, label: str, layer: int, n: int) -> str:
        """Return the variant that inner validation chose."""
        fits = self._fits(label, layer, n)
        means = fits.group_by("variant").agg(pl.col("inner_auc").mean()).sort("inner_auc", "variant")
        return "" if means.is_empty() else str(means["variant"][-1])

    def _fits(self, label: str, layer: int, n: int) -> pl.DataFrame:
        method, _, part = label.partition(" ")
        fits = self.scores.filter((pl.col("method") == method) & (pl.col("n") == n))
        if method != "posthoc":
            fits = fits.filter(pl.col("layer") == layer)
        return fits.filter(PARTS[part](pl.col("variant")))

    def _chosen(self, label: str, layer: int, n: int) -> Floats | None:
        fits = self._fits(label, layer, n)
        if fits.is_empty():
            return None
        fits = fits.filter(pl.col("variant") == self.variant(label, layer, n)).sort("seed")
        return np.array(fits["scores"].to_list(), dtype=np.float64)[:, : len(self.test)]

    def _control(self, label: str, n: int) -> Floats:
        """Return ``[1, N]`` scores of a control that reads the question and the answer's log-prob."""
        if label in ("logprob", "entropy"):
            return self.test[label].to_numpy()[None].astype(np.float64) * (1 if label == "logprob" else -1)
        train = self.answers.filter(pl.col("split") == "train").head(n)
        words = CountVectorizer(binary=True, token_pattern=r"\S+", ngram_range=(1, 2))
        parts = [words.fit_transform(train["question"].to_list()), words.transform(self.test["question"].to_list())]
        if label == "question-confidence":
            parts = [_crossed(part, table) for part, table in zip(parts, (train, self.test), strict=True)]
        model = LogisticRegression(max_iter=2000).fit(parts[0], train["correct"].to_numpy())
        return model.decision_function(parts[1])[None]

    def _resampled(self, scores: Floats) -> Drawn:
        groups = np.arange(len(self.correct)).astype(str)
        drawn = np.stack([e.resampled for e in bootstrap_auc(self.correct, scores, groups, RESAMPLES, seed=0)])
        picked = np.random.default_rng(1).integers(0, 5, (5, RESAMPLES)) % len(scores)
        value = float(np.mean([roc_auc_score(self.correct, row) for row in scores]))
        return Drawn(value, np.take_along_axis(drawn, picked, 0).mean(0))


def _crossed(words: Any, table: pl.DataFrame) -> Any:
    """Return words, the log-odds of the answer, and each word times these."""
    probability = np.exp(table["logprob"].to_numpy().astype(np.float64))
    odds = np.clip(np.log(probability + 1e-12) - np.log1p(-probability + 1e-12), -8, 8)[:, None]
    return hstack([words, odds, words.multiply(odds)]).tocsr()


def methods_table(fits: Fits, n: int) -> str:
    """Return the AUCs of all methods at every block as a Markdown table."""
    layers = fits.layers()
    lines = [["method", *(f"l = {layer}" for layer in layers)], ["---"] * (1 + len(layers))]
    for label in METHODS:
        cells = [fits.drawn(label, layer, n) for layer in layers]
        if any(cells):
            lines.append([label, *("" if cell is None else cell.text for cell in cells)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def claims(
    all_fits: Mapping[str, Fits], alike: Mapping[str, Fits]
) -> dict[str, list[tuple[str, int, int, Difference]]]:
    """Return claim → its differences, by order, block and number of training questions.

    Args:
        all_fits: by order.
        alike: the same on the test questions that all orders share, for what compares orders.
    """
    found: dict[str, list[tuple[str, int, int, Difference]]] = {claim: [] for claim in (*CLAIMS, TEXT)}
    for order, fits in all_fits.items():
        for n, layer in itertools.product(fits.sizes(), fits.layers()):
            for claim, (first, second) in CLAIMS.items():
                pair = fits.drawn(first, layer, n), fits.drawn(second, layer, n)
                if pair[0] is not None and pair[1] is not None:
                    found[claim].append((order, layer, n, Difference.of(pair[0], pair[1])))
            if order != "text" and "text" in alike:
                pair = alike["text"].drawn("probe", layer, n), alike[order].drawn("probe", layer, n)
                if pair[0] is not None and pair[1] is not None:
                    found[TEXT].append((order, layer, n, Difference.of(pair[0], pair[1])))
    return {claim: rows for claim, rows in found.items() if rows}


def shared(folder: Path, all_fits: Mapping[str, Fits]) -> dict[str, Fits]:
    """Return the fits on the test questions that all orders share: the first of them."""
    n = min(len(fits.test) for fits in all_fits.values())
    alike = {order: fits if len(fits.test) == n else Fits(folder, order, n) for order, fits in all_fits.items()}
    if len({tuple(fits.test["question"]) for fits in alike.values()}) > 1:
        raise SystemExit(f"the orders in {folder} were asked other test questions: they cannot be compared")
    return alike


def claims_text(found: Mapping[str, Sequence[tuple[str, int, int, Difference]]]) -> str:
    """Return the differences of each claim, and how many are shown after Holm's correction within it."""
    parts = []
    for claim, rows in found.items():
        adjusted = holm([row[-1].p for row in rows])
        above = sum(p < 0.05 and row[-1].value > 0 for p, row in zip(adjusted, rows, strict=True))
        below = sum(p < 0.05 and row[-1].value < 0 for p, row in zip(adjusted, rows, strict=True))
        parts.append(f"**{claim}**: shown in {above} of {len(rows)} cells, the opposite in {below}.\n")
        parts.append("| order | l | n | difference | 95 % | Holm p |\n| --- | --- | --- | --- | --- | --- |")
        for (order, layer, n, d), p in zip(rows, adjusted, strict=True):
            parts.append(f"| {order} | {layer} | {n:,} | {d.value:+.3f} | {d.low:+.3f} to {d.high:+.3f} | {p:.3f} |")
        parts.append("")
    return "\n".join(parts)


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/premise/fits"))
    folder = parser.parse_args().folder
    all_fits = {order: Fits(folder, order) for order in ORDERS if (folder / f"{order}.scores.parquet").is_file()}
    for order, fits in all_fits.items():
        kinds = ", ".join(f"{kind} {fits.test.filter(pl.col('kind') == kind)['correct'].mean():.3f}" for kind in KINDS)
        right = f"{len(fits.test):,} test questions, right {fits.correct.mean():.3f} ({kinds})"
        sys.stdout.write(f"\n## {order}\n\n{right}\n")
        for n in fits.sizes():
            sys.stdout.write(f"\n{n:,} training questions\n\n{methods_table(fits, n)}")
        for n, layer in itertools.product(fits.sizes(), fits.layers()):
            chosen = {name: fits.variant(name, layer, n) for name in ("probe", "attention-probe", "relope")}
            sys.stdout.write(f"chosen at n = {n:,}, l = {layer}: {chosen}\n")
    sys.stdout.write("\n## Claims\n\n" + claims_text(claims(all_fits, shared(folder, all_fits))))


if __name__ == "__main__":
    main()
