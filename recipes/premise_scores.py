"""What ``premise_fits.py`` leaves for ``premise_tables.py``: answers, a row a question, and scores, a row a fit."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from premise_ask import Asked, Replies
from premise_scenes import KINDS


class Scores:
    """The fits of one order so far, in a file that is written anew after each."""

    def __init__(self, folder: Path, order: str, n_test: int) -> None:
        self.path = folder / f"{order}.scores.parquet"
        self.rows: list[dict[str, Any]] = pl.read_parquet(self.path).to_dicts() if self.path.is_file() else []
        if self.rows and (there := len(self.rows[0]["scores"])) != n_test:
            raise SystemExit(f"{self.path} scores {there} test questions, not {n_test}: pass --test {there}")

    def holds(self, method: str, variant: str, layer: int, n: int, seeds: int) -> bool:
        """Return whether a fit is there with all its seeds."""
        key, names = (method, variant, layer, n), ("method", "variant", "layer", "n")
        return {*range(seeds)} <= {row["seed"] for row in self.rows if tuple(row[name] for name in names) == key}

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add fits and write all."""
        self.rows += rows
        table = pl.DataFrame(self.rows).with_columns(pl.col("scores").cast(pl.List(pl.Float32)))
        _write(self.path, table)


def write_answers(folder: Path, order: str, asked: Mapping[str, Asked], replies: Mapping[str, Replies]) -> None:
    """Write what was asked and answered in each split; where more is there already, it stays."""
    path = folder / f"{order}.answers.parquet"
    table = pl.concat(_answers(split, some, replies[split]) for split, some in asked.items())
    if not path.is_file() or len(pl.read_parquet(path)) < len(table):
        _write(path, table)


def _answers(split: str, asked: Asked, replies: Replies) -> pl.DataFrame:
    kinds = [KINDS[kind] for kind in asked.kind.tolist()]
    columns = {"split": [split] * len(asked), "kind": kinds, "question": list(asked.text)}
    told = {name: getattr(replies, name).cpu().numpy() for name in ("correct", "logprob", "entropy")}
    return pl.DataFrame({**columns, **told})


def _write(path: Path, table: pl.DataFrame) -> None:
    partial = path.with_suffix(".partial")
    table.write_parquet(partial)
    partial.rename(path)
