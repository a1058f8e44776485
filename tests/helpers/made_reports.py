"""Reports with known contents, written to disk: what studies and comparisons are made of."""

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from relope.evaluate.numbers.heldout import HELD
from relope.evaluate.report import MethodScores, ReportInputs, build_report

N = 160
FREE = ("logprob", "entropy")


def labels_of(correct, prefix="s", dataset="tiny"):
    n = len(correct)
    return pl.DataFrame(
        {
            "id": [f"{prefix}{i}" for i in range(n)],
            "split": ["test"] * n,
            "group": [f"{prefix}g{i // 2}" for i in range(n)],
            "correct": correct,
            "question": ["what ?"] * n,
            "response": ["that"] * n,
            "answers": [["this"]] * n,
            "dataset": [dataset] * n,
        }
    )


def _large(large):
    """Return whether the large model is right: as given, or at random with that share; None without one."""
    if isinstance(large, np.ndarray):
        return large
    return np.random.default_rng(9).random(N) < large if large else None


def make_report(
    folder,
    *,
    model="tiny-vl",
    dataset="tiny",
    seed=0,
    prefix="s",
    methods=None,
    large=0.9,
    correct=None,
    learned=(),
    budget=0.2,
    costs=None,
    **provenance,
):
    """Write a report; return its inputs.

    Methods map a name to how far it parts right from wrong; those in ``learned`` learned from the test split.
    """
    rng = np.random.default_rng(seed)
    correct = rng.random(N) < 0.6 if correct is None else correct
    scores = [
        MethodScores(
            name,
            np.stack([np.clip(rng.normal(0.5 + strength * correct, 0.15), 0, 1) for _ in range(2)]),
            seeds=(0, 1),
            is_control=name.startswith("question"),
            needs_training=name not in FREE,
            decides_before_answer=name not in FREE,
            seen=("test",) * (name in learned),
        )
        for name, strength in (methods or {"probe": 0.05, "relope": 0.2}).items()
    ]
    inputs = ReportInputs(
        title="t",
        what="w",
        small_name=model,
        large_name="" if large is None or large is False else "large",
        dataset=dataset,
        labels=labels_of(correct, prefix, dataset),
        methods=scores,
        large_correct=_large(large),
        provenance={"fingerprint": f"f{seed}", "dataset": dataset, **provenance},
        resamples=100,
        budget=budget,
        costs=costs,
    )
    build_report(inputs, folder)
    return inputs


def made_sweep(path, sizes=(40, 44)):
    """Two ranks by two alphas by two seeds; each seed holds out groups of its own, some of them in both."""
    rng, rows = np.random.default_rng(3), []
    for seed, size in enumerate(sizes):
        groups = rng.integers(10 * seed, 10 * seed + 20, size)
        correct = rng.random(size) < 0.5
        for rank in (2, 8):
            for alpha in (1.0, 2.0):
                scores = np.round(rng.random(size) + 0.3 * correct * (rank == 8), 1).astype(np.float32)
                rows.append(
                    {
                        "model": "tiny-vl",
                        "dataset": "d",
                        "method": "relope",
                        "lora_rank": rank,
                        "lora_alpha": alpha,
                        "seed": seed,
                        "inner_auc": roc_auc_score(correct, scores),
                        "held_group": groups.tolist(),
                        "held_correct": correct.tolist(),
                        "held_score": scores.tolist(),
                    }
                )
    pl.DataFrame(rows, schema_overrides=HELD).write_parquet(path)
    return rows
