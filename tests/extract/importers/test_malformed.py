"""Files that nobody's tool writes: one or two lines, nothing left, and nothing kept wrongly."""

import gzip
import json
import os
import struct
import zipfile

import polars as pl
import pytest
from foreign_files import inspect_log, inspect_sample, lm_eval_line, write_lines, write_sheet
from stepping import step

from relope.errors import RelopeError
from relope.store import open_store, verify

ROW = {"id": "q1", "question": "which?", "choices": ["x", "y"], "response": "B", "correct": True}
DEEP = "[" * 100_000 + "]" * 100_000
TEXTS = {
    "half of a character as an id": (
        "a.jsonl",
        r'{"id": "\ud800", "response": "x"}',
        "the id in line 1 .* half of a",
    ),
    "half of one as a model": ("a.jsonl", r'{"id": "a", "response": "x", "model": "\udc00"}', "the model in line 1"),
    "deep": ("a.json", DEEP, "is no JSON: maximum recursion"),
    "deep in a line": ("a.jsonl", '{"id": "a", "response": "x", "z": ' + DEEP + "}", "line 1 of a.jsonl is no JSON"),
    "digits": ("a.jsonl", '{"id": "a", "response": "x", "cost": ' + "9" * 5000 + "}", "line 1 of a.jsonl is no JSON"),
    "too many tokens": ("a.jsonl", '{"id": "a", "response": "x", "prompt_tokens": 1e20}', "a whole number up to"),
    "infinite": ("a.jsonl", '{"id": "a", "response": "x", "cost_usd": Infinity}', "must be a number of 0 or more"),
    "a scalar": ("a.json", "17", "must hold a JSON list of objects, not int"),
    "mixed items": ("m.json", '[{"index": 1, "prediction": "x"}, 7]', "item 2 of m.json must be an object"),
    "columns of lists": ("m.json", '{"index": [1], "prediction": ["x"]}', "is of no format|must hold a JSON list"),
    "one store for two": ("t.csv", "id,a/b_correct,a_b_correct\n1,1,0\n", "a/b and a_b would both be called a_b.zarr"),
    "a long row": ("m.tsv", "index\tprediction\n1\tx\ty\n", "has more cells than the header"),
    "a short row": ("m.tsv", "index\tprediction\thit\n1\n", "its prediction is empty"),
    "another's file": ("a.jsonl", '{"question": "q", "response": "x", "image": "/etc/passwd"}', "which lies outside"),
    "an empty id": ("a.jsonl", '{"id": "", "response": "x"}', "has no id, and a place in a file is none"),
    "commas in a TSV": ("m.tsv", "index,prediction\n1,x\n", "separated by ',', not by tabs"),
}


def _sheet(**cells):
    return lambda path: write_sheet(path, [{"index": 1, "prediction": "a", **cells}])


def _log(**changes):
    return lambda path: inspect_log(path, [inspect_sample(ROW, **changes)])


def _packed(method, flags):
    """Return what writes a log whose entries claim to be packed or encrypted in a way that is not read."""

    def write(path):
        inspect_log(path, [inspect_sample(ROW)])
        content = bytearray(path.read_bytes())
        for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            place = content.find(mark)
            while place >= 0:
                content[place + at] |= flags
                content[place + at + 2 : place + at + 4] = struct.pack("<H", method)
                place = content.find(mark, place + 4)
        path.write_bytes(content)

    return write


def _entries(**texts):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in texts.items():
                archive.writestr(name.replace("__", "/") + ".json", text)

    return write


HEADER = json.dumps({"version": 2, "eval": {"model": "m"}})
MADE = {
    "a pipe": ("a.jsonl", os.mkfifo, "is no plain file"),
    "gzip": ("samples_a.jsonl", lambda path: path.write_bytes(gzip.compress(b"{}")), "is no UTF-8 text"),
    "UTF-16": ("a.jsonl", lambda path: path.write_bytes('{"id": 1}'.encode("utf-16")), "is no UTF-8 text"),
    "half a Parquet": ("a.parquet", lambda path: path.write_bytes(b"PAR1" + b"\0" * 99), "cannot be read as Parquet"),
    "nested": (
        "a.parquet",
        lambda path: pl.DataFrame([{"id": "a", "response": {"x": 1}}]).write_parquet(path),
        "column 'response' in row 1 .* must be text",
    ),
    "an old workbook": (
        "m.xlsx",
        lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0" + b"\0" * 600),
        "no whole zip file",
    ),
    "a truth": ("m.xlsx", _sheet(prediction=True), "'prediction' in row 2 of m.xlsx holds bool"),
    "a formula": ("m.xlsx", _sheet(prediction="=1+1"), "its prediction is empty"),
    "xz": ("a.eval", _packed(95, 0), "cannot be unpacked: That compression method is not supported"),
    "no zstd": ("a.eval", _packed(93, 0), "is damaged: ZSTD decompress"),
    "encrypted": ("a.eval", _packed(8, 1), "is encrypted"),
    "a page": ("a.eval", _entries(header="<html>", samples__a="{}"), "header.json in a.eval is no JSON"),
    "a list": ("a.eval", _entries(header=HEADER, samples__a="[]"), "samples/a.json in a.eval must be an object"),
    "no object": ("a.json", _log(output="text"), "none of 1 sample has an answer: q1: no output"),
    "no choice": ("a.json", _log(output={"choices": [None]}), "no output"),
    "an id of several": ("a.json", _log(id=["a"]), "column 'id' in sample 1 of a.json"),
    "below nothing": (
        "a.json",
        _log(output={"choices": [{"message": {"content": "x"}}], "usage": {"input_tokens": -5}}),
        "must be a number of 0 or more",
    ),
    "twice": (
        "samples_a.jsonl",
        lambda path: write_lines(path, [lm_eval_line(0, ROW), lm_eval_line(1, ROW)]),
        "have the same id 'q1'",
    ),
}


@pytest.mark.parametrize("name", [*TEXTS, *MADE])
def test_it_is_refused_in_a_line_or_two(tmp_path, name):
    file, made, says = (TEXTS | MADE)[name]
    path = tmp_path / file
    path.write_text(made, encoding="utf-8") if isinstance(made, str) else made(path)
    model = None if "correct" in str(made) and file == "t.csv" else "m"
    with pytest.raises(RelopeError, match=says) as caught:
        step("import", files=[str(path)], model=model, out=tmp_path / "m.zarr")
    assert caught.value.lines.count("\n") <= 1 and "--allow-outside" not in caught.value.hint
    assert {left.name for left in tmp_path.iterdir()} == {file}


@pytest.mark.parametrize(
    ("line", "response"),
    [
        (r'{"id": "a", "response": "\ud800 x"}', "� x"),
        (r'{"id": "a\u0000b", "response": "\u0000"}', "\0"),
        ('{"id": 123456789012345678901234567890, "response": "x"}', "x"),
    ],
)
def test_odd_texts_are_kept(tmp_path, line, response):
    (tmp_path / "a.jsonl").write_text(line)
    step("import", files=[str(tmp_path / "a.jsonl")], model="m", out=tmp_path / "m.zarr")
    assert open_store(tmp_path / "m.zarr").samples["response"].to_list() == [response]
    assert verify(tmp_path / "m.zarr", deep=True) == []


def test_a_model_s_name_leads_nowhere(tmp_path):
    (tmp_path / "t.csv").write_text("id,../../x_correct,b_correct\n1,1,0\n")
    step("import", files=[str(tmp_path / "t.csv")], out=tmp_path / "all")
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"_.._x.zarr", "b.zarr"}
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", "all"}


@pytest.mark.parametrize("value", [[1, 0], float("nan"), "maybe", None, {"a": 1}, 0.5, "P"])
def test_what_is_no_verdict_is_none(tmp_path, value):
    log = inspect_log(tmp_path / "a.json", [inspect_sample(ROW, scores={"m": {"value": value}})])
    done = step("import", files=[str(log)], out=tmp_path / "m.zarr")
    assert done.facts["stores"][0]["verdicts"] == 0
