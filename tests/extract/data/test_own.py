"""A user's own file or folder: every form of a row, and mistakes that name row and column."""

import base64
import csv
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mini_hub import cell, png

from relope import steps
from relope.errors import InvalidInputError, NotFoundError, RelopeError
from relope.extract.data.flaws import find_flaws, input_digest
from relope.extract.data.open import open_dataset
from relope.spec import ExtractSpec
from relope.steps.reopen import open_streams
from relope.store import ActivationStore


def lines(path, rows):
    """Write a JSON Lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def every(path):
    """Return the samples of a file, by id."""
    dataset = open_dataset(str(path))
    return {sample.id: sample for split in dataset.splits for sample in dataset.load(split, None)}


def uri(color):
    """Return an image as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png(color)).decode()}"


def test_every_way_to_give_an_image_is_the_same_image(tmp_path):
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "a.png").write_bytes(png("red"))
    rows = [
        {"id": "path", "image": "img/a.png"},
        {"id": "absolute", "image": str(tmp_path / "img" / "a.png")},
        {"id": "uri", "image": uri("red")},
        {"id": "dict", "image": {"path": "img/a.png", "bytes": None}},
        {"id": "list", "images": ["img/a.png", uri("blue")]},
        {"id": "none", "image": None},
        {"id": "blue", "image": uri("blue")},
    ]
    samples = every(lines(tmp_path / "q.jsonl", [{"question": "What?", "answer": "x", **row} for row in rows]))
    shown = {name: [p.digest for p in sample.images] for name, sample in samples.items()}
    assert shown["path"] == shown["absolute"] == shown["uri"] == shown["dict"] == shown["list"][:1]
    assert shown["none"] == [] and shown["list"][1:] == shown["blue"]
    assert samples["list"].images[1].open().getpixel((0, 0)) == (0, 0, 255)
    groups = {sample.group for name, sample in samples.items() if name != "none"}
    assert len(groups) == 1  # red and blue stand together in one sample
    assert len({samples[name].split for name in ("path", "blue", "list")}) == 1


def test_parquet_with_bytes(tmp_path):
    table = pa.table(
        {
            "question": ["a?", "b?"],
            "answer": ["1", "2"],
            "split": ["train", "test"],
            "image": [png("red"), None],
            "choices": [["1", "2"], ["2", "3"]],
        }
    )
    pq.write_table(table, tmp_path / "q.parquet")
    one, two = every(tmp_path / "q.parquet").values()
    assert (one.answers, two.answers) == (("A",), ("A",)) and (one.split, two.split) == ("train", "test")
    assert one.images[0].open().size == (24, 16) and two.images == ()


def test_parquet_with_image_features_and_lists(tmp_path):
    features = datasets.Features(
        {
            "question": datasets.Value("string"),
            "answer": datasets.Value("int64"),
            "images": datasets.List(datasets.Image()),
        }
    )
    rows = {"question": ["a?", "b?"], "answer": [1, 2], "images": [[cell("red"), cell("blue")], []]}
    table = datasets.Dataset.from_dict(rows, features=features)
    table.to_parquet(str(tmp_path / "q.parquet"))
    table.save_to_disk(str(tmp_path / "saved"))
    for path in (tmp_path / "q.parquet", tmp_path / "saved"):
        found = sorted(every(path).values(), key=lambda sample: sample.question)
        assert [len(sample.images) for sample in found] == [2, 0] and found[0].answers == ("1",)
        assert found[0].images[1].open().getpixel((0, 0)) == (0, 0, 255)


def test_csv_and_json(tmp_path):
    with (tmp_path / "q.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["question", "answer", "choices", "hint"])
        writer.writeheader()
        writer.writerow({"question": "a, or\nb?", "answer": "b", "choices": '["a", "b"]'})
        writer.writerow({"question": "c?", "answer": "7", "hint": "h"})
    one, two = sorted(every(tmp_path / "q.csv").values(), key=lambda sample: sample.question)
    assert one.answers == ("B",) and one.question == "a, or\nb?"
    assert (two.answers, two.hint, two.choices) == (("7",), "h", ())
    (tmp_path / "q.json").write_text(json.dumps([{"question": "c?", "answer": ["7", "seven"]}]))
    (three,) = every(tmp_path / "q.json").values()
    assert three.answers == ("7", "seven")


def test_a_folder_takes_its_splits_from_file_names(tmp_path):
    (tmp_path / "data").mkdir()
    lines(tmp_path / "train.jsonl", [{"question": "a?", "answer": "1"}])
    lines(tmp_path / "data" / "val-00000.jsonl", [{"question": "b?", "answer": "1"}])
    lines(tmp_path / "test_set.jsonl", [{"question": "c?", "answer": "1"}])
    dataset = open_dataset(str(tmp_path))
    assert dataset.splits == ("train", "validation", "test") and dataset.grader == "auto"
    assert dataset.identity["source"] == "own file" and dataset.identity["name"] == tmp_path.name
    assert dataset.source == str(tmp_path)


def test_without_a_split_column_images_decide(tmp_path):
    rows = [{"id": n, "question": f"{n}?", "answer": "x", "image": uri(f"#{n // 2:06x}")} for n in range(400)]
    samples = every(lines(tmp_path / "q.jsonl", rows))
    splits = {}
    for sample in samples.values():
        assert splits.setdefault(sample.group, sample.split) == sample.split
    assert len(splits) == 200 and 0.1 < sum(split == "test" for split in splits.values()) / 200 < 0.3
    fewer = every(lines(tmp_path / "q.jsonl", rows[:100]))
    assert all(samples[name].split == sample.split for name, sample in fewer.items())


def test_ids_are_of_the_content_where_none_are_given(tmp_path):
    rows = [{"question": "a?", "answer": "1"}, {"question": "b?", "answer": "1"}]
    there, back = every(lines(tmp_path / "a.jsonl", rows)), every(lines(tmp_path / "b.jsonl", rows[::-1]))
    assert set(there) == set(back) and all(name == input_digest(sample)[:16] for name, sample in there.items())
    described = every(lines(tmp_path / "c.jsonl", [{**row, "caption": "c"} for row in rows]))
    assert set(described) == set(there) and {sample.caption for sample in described.values()} == {"c"}


ROW = {"question": "What?", "answer": "x"}
WRONG = [
    ([{"qestion": "What?", "answer": "x"}], "column 'question' is missing in line 1 of q.jsonl (it has: qestion"),
    ([{**ROW, "question": 3}], "column 'question' in line 1 of q.jsonl holds int '3'; it must be text"),
    ([{**ROW, "answer": {"a": 1}}], "column 'answer' in line 1"),
    ([{**ROW, "choices": "a|b"}], "column 'choices' in line 1 of q.jsonl holds str 'a|b'; it must be a list"),
    ([{**ROW, "choices": ["x"]}], "a list of 2–26 texts"),
    ([{**ROW, "image": 5}], "column 'image' in line 1 of q.jsonl holds int '5'; it must be a path"),
    ([{**ROW, "image": "https://x.org/a.png"}], "is a web address; download it"),
    ([{**ROW, "image": "a.png", "images": ["a.png"]}], "has both 'image' and 'images'"),
    ([{**ROW, "images": "a.png"}], "column 'images' in line 1"),
    ([{**ROW, "split": 3}], "column 'split' in line 1"),
    ([{**ROW, "id": 1.5}], "column 'id' in line 1 of q.jsonl holds float '1.5'; it must be text or a whole number"),
    ([{**ROW, "id": "q"}, {**ROW, "id": "q"}], "line 1 of q.jsonl and line 2 of q.jsonl have the same id 'q'"),
    ([ROW, ROW], "line 1 of q.jsonl and line 2 of q.jsonl are the same question"),
    ([{**ROW, "split": "train"}, {**ROW, "id": "2"}], "line 2 of q.jsonl has no split (column 'split')"),
    ([[1, 2]], "line 1 of q.jsonl must be an object"),
    ([], "has no rows"),
]


@pytest.mark.parametrize(("rows", "says"), WRONG, ids=[says[:40] for _, says in WRONG])
def test_mistakes_name_row_and_column(tmp_path, rows, says):
    with pytest.raises(RelopeError) as error:
        open_dataset(str(lines(tmp_path / "q.jsonl", rows)))
    assert says in str(error.value) and len(error.value.lines.splitlines()) <= 2


def test_files_that_are_none(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"question": "a?", "answer": "1"}\n{"question": ')
    with pytest.raises(InvalidInputError, match=r"line 2 of q\.jsonl is no JSON"):
        open_dataset(str(tmp_path / "q.jsonl"))
    (tmp_path / "q.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InvalidInputError, match=r"q\.parquet cannot be read as Parquet"):
        open_dataset(str(tmp_path / "q.parquet"))
    (tmp_path / "q.json").write_text('{"a": 1}')
    with pytest.raises(InvalidInputError, match="must hold a JSON list"):
        open_dataset(str(tmp_path / "q.json"))
    (tmp_path / "latin.csv").write_bytes("question,answer\nwörld?,x\n".encode("latin-1"))
    with pytest.raises(InvalidInputError, match="no UTF-8"):
        open_dataset(str(tmp_path / "latin.csv"))
    (tmp_path / "wide.csv").write_text("question,answer\na?,x,y\n")
    with pytest.raises(InvalidInputError, match=r"row 1 of wide\.csv has more cells"):
        open_dataset(str(tmp_path / "wide.csv"))
    (tmp_path / "q.xlsx").write_bytes(b"x")
    with pytest.raises(InvalidInputError, match=r"must end in \.jsonl"):
        open_dataset(str(tmp_path / "q.xlsx"))
    with pytest.raises(NotFoundError, match="no data file at"):
        open_dataset(str(tmp_path / "none.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="holds no data file"):
        open_dataset(str(tmp_path / "empty"))


def test_rows_that_cannot_be_used_are_flaws(tmp_path):
    rows = [
        {**ROW, "id": "good"},
        {**ROW, "id": "empty", "question": "  "},
        {**ROW, "id": "null", "question": None},
        {**ROW, "id": "unanswered", "answer": None},
        {**ROW, "id": "nowhere", "choices": ["a", "b"]},
        {**ROW, "id": "index", "choices": ["a", "b"], "answer": 2},
        {**ROW, "id": "missing", "image": "none.png"},
        {**ROW, "id": "garbled", "image": "data:image/png;base64,@@@@"},
        {**ROW, "id": "nothing", "image": "data:image/png;base64,"},
    ]
    samples = list(every(lines(tmp_path / "q.jsonl", rows)).values())
    reasons = {flaw.id: flaw.reason for flaw in find_flaws(samples, text_only=False)[0]}
    assert set(reasons) == {row["id"] for row in rows} - {"good"}
    assert "question is empty" in reasons["empty"] and "no answer" in reasons["unanswered"]
    assert "'x' is none of the choices" in reasons["nowhere"] and "2 is none of" in reasons["index"]
    assert f"there is no file {tmp_path / 'none.png'}" in reasons["missing"]
    assert "no data URI" in reasons["garbled"] and "0 bytes" in reasons["nothing"]


def test_what_pandas_makes_of_missing_cells_and_whole_numbers(tmp_path):
    hole = float("nan")
    rows = [
        {"question": "a?", "answer": 1.0, "choices": ["x", "y"], "id": 7.0, "hint": hole, "image": hole},
        {"question": "b?", "answer": 12.0, "choices": hole, "id": 8.0, "hint": "h", "image": hole},
        {"question": "c?", "answer": 2.5, "choices": hole, "id": 9.0, "hint": hole, "image": uri("red")},
        {"question": "d?", "answer": hole, "choices": hole, "id": 10.0, "hint": hole, "image": hole},
    ]
    samples = every(lines(tmp_path / "q.jsonl", rows))
    assert {name: sample.answers for name, sample in samples.items()} == {
        "7": ("B",),
        "8": ("12",),
        "9": ("2.5",),
        "10": (),
    }
    assert [len(samples[name].images) for name in ("8", "9")] == [0, 1] and samples["8"].hint == "h"
    assert [flaw.reason for flaw in find_flaws(list(samples.values()), text_only=False)[0]] == ["it has no answer"]


def questions(n, start=0):
    """Return rows with and without choices, each about an image of its own."""
    return [
        {
            "id": f"q{k}",
            "question": "what color is it ?",
            "answer": "red",
            "image": uri(f"#{k * 999:06x}"),
            "split": "train" if k % 3 else "test",
            **({"choices": ["red", "blue"]} if k % 2 else {}),
        }
        for k in range(start, start + n)
    ]


def test_from_a_file_to_a_store_that_grows(tmp_path):
    path, out = lines(tmp_path / "mine.jsonl", questions(12)), tmp_path / "mine.zarr"
    spec = ExtractSpec(model="tiny-vl", dataset=str(path), out=out, device="cpu", max_new_tokens=4)
    assert steps.run(spec).facts["computed"] == 12
    with ActivationStore.open(out) as store:
        first = store.recipe_id
        assert set(store.samples["dataset"]) == {"mine"} and store.manifest.grader == "auto"
    lines(path, questions(15))
    assert steps.run(spec).facts["computed"] == 3
    with ActivationStore.open(out) as store:
        assert store.recipe_id == first and len(store.samples) == 15
    streamed = open_streams(ActivationStore.open(out))
    assert len(streamed.samples) == 15
    lines(path, [{**row, "caption": "new"} for row in questions(15)])
    assert steps.run(spec).reused
    lines(path, [{**questions(15)[0], "answer": "blue"}, *questions(15)[1:]])
    with pytest.raises(InvalidInputError, match=r"1 samples have changed .*first: q0"):
        steps.run(spec)
