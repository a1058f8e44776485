"""Adds to a store what extraction with --samples and --p-true leaves, without running a model."""

import json
from pathlib import Path

import numpy as np
import polars as pl
from made_stores import reseal

STYLES = ("direct", "chain")
TRACES = 3


def add_traces(store: Path, seed: int = 0) -> None:
    """Give every sample drawn traces, their verdicts and a drawn p_true.

    A trace repeats the sample's own answer more often than not; some cannot be parsed.
    """
    rng = np.random.default_rng(seed)
    parsed: dict[str, dict[str, list[str]]] = {}
    for file in sorted(store.glob("parts/*/samples.parquet")):
        frame = pl.read_parquet(file)
        drawn = {style: [_traces(answer, rng) for answer in frame["response"]] for style in STYLES}
        for style, traces in drawn.items():
            frame = frame.with_columns(pl.Series(f"traces_{style}", [[f"so: {t}" for t in some] for some in traces]))
            parsed.setdefault(style, {}).update(zip(frame["id"], traces, strict=True))
        frame.with_columns(pl.Series("p_true", rng.random(len(frame)))).write_parquet(file)
        reseal(file.parent)
    for file in store.glob("grades/*.parquet"):
        verdicts = pl.read_parquet(file)
        columns = [pl.Series(f"parsed_{style}", [parsed[style][i] for i in verdicts["id"]]) for style in STYLES]
        verdicts.with_columns(columns).write_parquet(file)


def _traces(answer: str, rng: np.random.Generator) -> list[str]:
    return [["one", "two", "", answer, answer, answer][rng.integers(6)] for _ in range(TRACES)]


def drop_grades_of_traces(store: Path) -> None:
    """Take the traces' verdicts away again, as if the store had been graded before."""
    for file in store.glob("grades/*.parquet"):
        pl.read_parquet(file).drop([f"parsed_{style}" for style in STYLES]).write_parquet(file)


def no_pickle(folder: Path) -> bool:
    """Return whether a fitted router is JSON and safetensors alone."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
    return bool(files) and {path.name for path in files} == {"probe.json", "probe.safetensors"}
