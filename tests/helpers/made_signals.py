"""Stores whose answer is known: we toss the coin that says who is right, and where the states say so too."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.probes.examples import Examples
from relope.store import ActivationStore, StoreManifest, create_or_open
from relope.store.grades import labelled, parsed_answers
from relope.types import Capture

PART = 1000
WORDS = ("red", "star", "how", "many", "left", "which")
TRACES = 4

States = Callable[[np.random.Generator, int], npt.NDArray[np.float32]]
"""(generator, label 0 or 1) → ``[T, H]`` states of one sample, the same in both layers."""


def make_signal_store(
    path: Path,
    sizes: tuple[int, int],
    states: States,
    seed: int,
    layers: tuple[int, int] = (1, 2),
    columns: Sequence[str] = ("kind",),
) -> Path:
    """Write (train, test) samples whose states are drawn given a fair coin; the verdicts are the coin.

    All else that a method may read (questions, answers, log-probs, traces) is drawn without a look
    at the coin. Token columns whose names begin with ``position`` count tokens, the others are 0.
    """
    rng = np.random.default_rng(seed)
    width = states(np.random.default_rng(0), 0).shape[1]
    writer = create_or_open(path, StoreManifest({"made": seed}, layers, width, "float32", tuple(columns)))
    splits = np.repeat(["train", "test"], sizes)
    coins = rng.random(len(splits)) < 0.5
    verdicts = []
    for start in range(0, len(splits), PART):
        places = range(start, min(start + PART, len(splits)))
        with writer.part([f"s{place}" for place in places]) as part:
            for place in places:
                row = _row(f"s{place}", str(splits[place]), rng)
                verdicts.append(_verdict(row, bool(coins[place])))
                part.append([row], [_capture(states(rng, int(coins[place])), layers, columns)])
    writer.publish()
    (path / "grades").mkdir()
    pl.DataFrame(verdicts).write_parquet(path / "grades" / "coin@1.parquet")
    return path


def _row(name: str, split: str, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "id": name,
        "split": split,
        "group": name,
        "question": " ".join(rng.choice(WORDS, 4)),
        "choices": [],
        "response": str(rng.choice(WORDS)),
        "logprobs": (-rng.exponential(size=3)).tolist(),
        "entropies": rng.exponential(size=3).tolist(),
        "p_true": float(rng.random()),
        "traces_direct": rng.choice(WORDS, TRACES).tolist(),
        "traces_chain": rng.choice(WORDS, TRACES).tolist(),
    }


def _verdict(row: dict[str, Any], coin: bool) -> dict[str, Any]:
    read = {"parsed": row["response"], "parse_status": "parsed"}
    traces = {"parsed_direct": row["traces_direct"], "parsed_chain": row["traces_chain"]}
    return {"id": row["id"], "split": row["split"], "correct": coin, **read, **traces}


def _capture(values: npt.NDArray[np.float32], layers: Sequence[int], columns: Sequence[str]) -> Capture:
    counts = np.arange(len(values), dtype=np.int32)
    tokens = np.stack([counts if name.startswith("position") else counts * 0 for name in columns], axis=1)
    return Capture(hidden=dict.fromkeys(layers, values), answer=values[-1], tokens=tokens)


def both_splits(path: Path) -> tuple[Examples, Examples]:
    """Return labelled training and test examples of a made store."""
    store = ActivationStore.open(path)
    found = []
    for split in ("train", "test"):
        rows, correct = labelled(store, (split,), None)
        found.append(Examples(store, rows, correct, store.layers[-1], grades=parsed_answers(store, rows, None)))
    return found[0], found[1]
