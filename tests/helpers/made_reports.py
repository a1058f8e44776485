"""Reports with known contents, written to disk: what studies and comparisons are made of."""

import numpy as np
import polars as pl

from relope.evaluate.report import MethodScores, ReportInputs, build_report

N = 160


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


def make_report(
    folder, *, model="tiny-vl", dataset="tiny", seed=0, prefix="s", methods=None, large=True, correct=None, **provenance
):
    """Write a report; return its inputs. Methods map a name to how far it parts right from wrong."""
    rng = np.random.default_rng(seed)
    correct = rng.random(N) < 0.6 if correct is None else correct
    scores = [
        MethodScores(
            name,
            np.stack([np.clip(rng.normal(0.5 + strength * correct, 0.15), 0, 1) for _ in range(2)]),
            seeds=(0, 1),
            is_control=name.startswith("question"),
        )
        for name, strength in (methods or {"probe": 0.05, "relope": 0.2}).items()
    ]
    inputs = ReportInputs(
        title="t",
        what="w",
        small_name=model,
        large_name="large" if large else "",
        dataset=dataset,
        labels=labels_of(correct, prefix, dataset),
        methods=scores,
        large_correct=np.random.default_rng(9).random(N) < 0.9 if large else None,
        provenance={"fingerprint": f"f{seed}", "dataset": dataset, **provenance},
        resamples=100,
    )
    build_report(inputs, folder)
    return inputs
