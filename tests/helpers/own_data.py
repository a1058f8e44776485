"""Data files of a user's own, and what is read from them."""

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl

from relope.extract.data.open import open_dataset
from relope.types import Sample


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a JSON Lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def comma_separated(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a CSV file; lists become JSON, and numbers are floats where a row has none, as pandas has them."""
    hole = any(row.get("answer") is None for row in rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            cells = {name: json.dumps(cell) if isinstance(cell, list) else cell for name, cell in row.items()}
            if hole and isinstance(row.get("answer"), int):
                cells["answer"] = float(row["answer"])
            writer.writerow(cells)
    return path


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a Parquet file; numbers are floats, with NaN where a row has none, as pandas has them."""
    columns = {name: [row.get(name) for row in rows] for name in rows[0]}
    frame = pl.DataFrame(columns, strict=False)
    if frame["answer"].dtype.is_integer() and frame["answer"].null_count():
        frame = frame.with_columns(pl.col("answer").cast(pl.Float64).fill_null(float("nan")))
    frame.write_parquet(path)
    return path


WRITERS = {".jsonl": lines, ".csv": comma_separated, ".parquet": parquet}
"""Kind of file → what writes rows as one."""


def read(path: Path, **how: Any) -> dict[str, Sample]:
    """Return the samples of a data file, by id."""
    dataset = open_dataset(str(path), **how)
    return {sample.id: sample for split in dataset.splits for sample in dataset.load(split, None)}


def answers(path: Path, **how: Any) -> dict[str, tuple[str, ...]]:
    """Return the gold answers of a data file, by id."""
    return {name: sample.answers for name, sample in read(path, **how).items()}
