"""The answers of a store, written down as other tools write theirs."""

import csv
import json

import polars as pl

from relope.store import open_store
from relope.store.grades import read_grades

MODEL = "gpt-4.1"


def told(store, split="test"):
    """Return the samples of a store, each with whether its answer is right."""
    opened = open_store(store)
    grades = read_grades(opened, None).table.select("id", "correct")
    samples = opened.samples.filter(pl.col("split") == split).join(grades, on="id", maintain_order="left")
    return list(samples.iter_rows(named=True))


def write_lines(path, rows):
    """Write rows as JSON Lines; return the file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def ours(path, rows, **changes):
    """Write answers in our own form."""
    kept = [
        {
            "id": row["id"],
            "response": row["response"],
            "correct": row["correct"],
            "model": MODEL,
            "prompt_tokens": 100 + number,
            "completion_tokens": 3,
            "cost_usd": 0.001,
            **changes,
        }
        for number, row in enumerate(rows)
    ]
    return write_lines(path, kept)


def outcomes(path, rows, models=(MODEL,)):
    """Write an outcome table as MMR-Bench has it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        names = [f"{model}_{what}" for model in models for what in ("correct", "cost", "prediction")]
        writer = csv.writer(file)
        writer.writerow(["dataset_idx", "question", *names])
        for row in rows:
            cells = [[int(row["correct"]), 0.002, row["response"]] for _ in models]
            writer.writerow([row["id"], row["question"], *[cell for of in cells for cell in of]])
    return path
