"""A VLMEvalKit TSV as a data set, and options under their other names."""

import base64
import csv
import io
import json

import polars as pl
import pytest
from PIL import Image
from stepping import step

from relope.errors import InvalidInputError
from relope.extract.data.open import open_dataset
from relope.store import open_store


def picture(shade):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, 80, 80)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def tsv(path, rows, quoting=csv.QUOTE_MINIMAL):
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, delimiter="\t", quoting=quoting, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def bench(count=6):
    """Rows as MMBench has them: the third shows the image of the fifth, the last that of the first."""
    rows = [
        {"index": 100 + n, "question": f"what is {n}?", "hint": "look" if n == 1 else "", "A": "red", "B": "2", "C": ""}
        | {"answer": "AB"[n % 2], "category": "colour", "l2-category": "x", "split": "dev", "image": picture(10 * n)}
        for n in range(count)
    ]
    rows[2]["image"], rows[count - 1]["image"] = 104, 100
    rows[3]["image"] = str([picture(1), picture(2)])
    return rows


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_rows_become_samples(tmp_path, quoting):
    dataset = open_dataset(str(tsv(tmp_path / "MMBench_DEV_EN.tsv", bench(), quoting)))
    samples = dataset.load("validation", None)
    assert dataset.name == "MMBench_DEV_EN" and dataset.notes[0] == "columns not read: l2-category"
    assert [sample.id for sample in samples] == [str(100 + n) for n in range(6)]
    assert [sample.answers for sample in samples] == [("AB"[n % 2],) for n in range(6)]
    assert {sample.choices for sample in samples} == {("red", "2")} and samples[1].hint == "look"
    digests = [[image.digest for image in sample.images] for sample in samples]
    assert digests[2] == digests[4] and digests[5] == digests[0] and len(digests[3]) == 2
    assert len({digest for of in digests for digest in of}) == 5  # 0, 1, 4 and the two of 3
    assert samples[2].images[0].open().getpixel((0, 0)) == (40, 80, 80) and samples[2].meta["kind"] == "colour"
    assert samples[2].group == samples[4].group != samples[0].group == samples[5].group


def test_it_is_extracted_and_its_results_find_it(tmp_path):
    path = tsv(tmp_path / "bench.tsv", bench())
    step("extract", model="tiny-vl", dataset=path, out=tmp_path / "small.zarr", tokens="lean")
    results = [{"index": row["index"], "question": row["question"], "A": "red", "B": "2", "C": None} for row in bench()]
    results = [{**row, "prediction": "B", "hit": n % 2} for n, row in enumerate(results)]
    (tmp_path / "m.json").write_text(json.dumps(results))
    done = step(
        "import", files=[str(tmp_path / "m.json")], model="m", store=tmp_path / "small.zarr", out=tmp_path / "m.zarr"
    )
    assert "(6 by id)" in done.text and len(open_store(tmp_path / "m.zarr")) == 6


def test_what_a_row_lacks(tmp_path):
    rows = bench()
    rows[2]["image"], rows[3]["image"], rows[4]["answer"] = 999, "!!" * 40, "D"
    rows[1]["image"] = picture(1)[:40]
    rows[5] = {**rows[5], "A": "", "B": "", "answer": "seven", "image": ""}
    by_id = {sample.id: sample for sample in open_dataset(str(tsv(tmp_path / "b.tsv", rows))).load("validation", None)}
    with pytest.raises(InvalidInputError, match=r"in row 3 of b\.tsv holds '999': no file, and no picture"):
        by_id["102"].images[0].open()
    with pytest.raises(InvalidInputError, match="is no data URI"):
        by_id["103"].images[0].open()
    with pytest.raises(InvalidInputError, match=r"in row 2 of b\.tsv holds 'iVBOR.*': no file, and no picture"):
        by_id["101"].images[0].open()
    assert "is the letter of none of the choices" in by_id["104"].meta["flaw"]
    assert by_id["105"].answers == ("seven",) and by_id["105"].choices == () and by_id["105"].images == ()


def test_a_broken_file_is_refused(tmp_path):
    path = tsv(tmp_path / "b.tsv", bench(), csv.QUOTE_ALL)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(InvalidInputError, match="is not closed"):
        open_dataset(str(path))
    (tmp_path / "c.tsv").write_text("index,question\n1,a\n")
    with pytest.raises(InvalidInputError, match="separated by ',', not by tabs"):
        open_dataset(str(tmp_path / "c.tsv"))
    twice = tsv(tmp_path / "d.tsv", [*bench(), bench()[0]])
    with pytest.raises(InvalidInputError, match="have the same id '100'"):
        open_dataset(str(twice))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("name", ["options", "Options", "Choices"])
def test_options_are_choices(tmp_path, suffix, name):
    rows = [{"question": "which?", name: ["red", "blue"], "answer": "B", "id": "a"}]
    path = tmp_path / f"q{suffix}"
    if suffix == ".jsonl":
        path.write_text(json.dumps(rows[0]))
    elif suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        mark = "\t" if suffix == ".tsv" else ","
        path.write_text(mark.join(["question", name, "answer", "id"]) + "\n")
        with path.open("a", newline="") as file:
            csv.writer(file, delimiter=mark).writerow(["which?", "['red', 'blue']", "B", "a"])
    dataset = open_dataset(str(path))
    (sample,) = [sample for split in dataset.splits for sample in dataset.load(split, None)]
    assert sample.choices == ("red", "blue") and sample.answers == ("B",)
    assert not any("not read" in note for note in dataset.notes)


def test_options_beside_choices_or_as_text_are_not_read(tmp_path):
    row = {"question": "which?", "choices": ["red", "blue"], "options": ["x", "y"], "answer": "red"}
    (tmp_path / "q.jsonl").write_text(json.dumps(row))
    assert "columns not read: options" in open_dataset(str(tmp_path / "q.jsonl")).notes[0]
    both = [
        {"question": "one?", "options": None, "answer": "x"},
        {"question": "two?", "options": ["x", "y"], "answer": "x"},
    ]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in both))
    assert not any("not read" in note for note in open_dataset(str(tmp_path / "m.jsonl")).notes)
    (tmp_path / "t.jsonl").write_text(json.dumps({"question": "which?", "options": "A. red B. blue", "answer": "A"}))
    assert "options (did you mean choices?)" in open_dataset(str(tmp_path / "t.jsonl")).notes[0]
