"""The answers of a store, written down as other tools write theirs."""

import csv
import json
import zipfile

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


def vlmevalkit(path, rows, **changes):
    """Write a table of verdicts as VLMEvalKit has it, by the suffix of the path."""
    kept = []
    for row in rows:
        options = dict(zip("ABCD", row["choices"], strict=False))
        asked = {"index": row["id"], "question": row["question"], **{letter: options.get(letter) for letter in "ABCD"}}
        kept.append({**asked, "prediction": row["response"], "hit": int(row["correct"]), **changes})
    if path.suffix == ".json":
        path.write_text(json.dumps(kept), encoding="utf-8")
    elif path.suffix == ".tsv":
        pl.DataFrame(kept, infer_schema_length=None).write_csv(path, separator="\t", quote_style="always")
    else:
        write_sheet(path, kept)
    return path


def write_sheet(path, rows):
    """Write rows as an Excel workbook."""
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append(list(row.values()))
    book.save(path)


def lm_eval_line(number, row, **changes):
    """Return a line of ``samples_<task>_<date>.jsonl`` of a task that generates text."""
    return {
        "doc_id": number,
        "doc": {"id": row["id"], "question": row["question"], "options": row["choices"] or None},
        "target": "?",
        "arguments": {"gen_args_0": {"arg_0": f"Q: {row['question']}", "arg_1": {"until": ["\n"]}}},
        "resps": [[row["response"]]],
        "filtered_resps": [row["response"]],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": "0",
        "prompt_hash": "0",
        "target_hash": "0",
        "exact_match": float(row["correct"]),
        **changes,
    }


def lm_eval(folder, rows, task="tiny"):
    """Write logged samples, and the results beside them that name the model; return the samples."""
    folder.mkdir(parents=True, exist_ok=True)
    date = "2026-01-02T03-04-05.678901"
    (folder / f"results_{date}.json").write_text(json.dumps({"model_name": MODEL, "results": {}}))
    lines = [lm_eval_line(number, row) for number, row in enumerate(rows)]
    return write_lines(folder / f"samples_{task}_{date}.jsonl", lines)


_UNTOLD = {"type": "image", "image": "images/1.png"}
"""An image as a log has it that was written without images."""


def inspect_sample(row, **changes):
    """Return a sample of an inspect_ai log."""
    choice = {"message": {"role": "assistant", "content": row["response"]}, "stop_reason": "stop"}
    usage = {"input_tokens": 20, "output_tokens": 3, "total_tokens": 33, "input_tokens_cache_read": 10}
    return {
        "id": row["id"],
        "epoch": 1,
        "input": [{"role": "user", "content": [{"type": "text", "text": row["question"]}, _UNTOLD]}],
        "choices": list(row["choices"]) or None,
        "target": "?",
        "messages": [],
        "output": {"model": MODEL, "choices": [choice], "usage": usage, "time": 1.5},
        "scores": {"match": {"value": "C" if row["correct"] else "I", "answer": row["response"]}},
        **changes,
    }


def inspect_log(path, samples, **changes):
    """Write an inspect_ai log, by the suffix of the path."""
    header = {"version": 2, "status": "success", "eval": {"model": MODEL, "task": "tiny"}, **changes}
    if path.suffix == ".json":
        path.write_text(json.dumps({**header, "samples": samples}), encoding="utf-8")
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_journal/start.json", json.dumps(header))
        for sample in samples:
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        archive.writestr("header.json", json.dumps(header))
    return path
