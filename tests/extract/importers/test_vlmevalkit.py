"""VLMEvalKit's tables: predictions, its verdicts on them, and what is no answer."""

import zipfile

import pytest
from foreign_files import MODEL, told, vlmevalkit, write_sheet
from stepping import step

from relope.errors import InvalidInputError
from relope.store import open_store
from relope.store.grades import read_grades


def brought(path, **values):
    return step("import", files=[str(path)], **values)


@pytest.mark.parametrize("suffix", [".xlsx", ".tsv", ".json"])
def test_every_kind_of_table(store_path, tmp_path, suffix):
    rows = told(store_path)
    path = vlmevalkit(tmp_path / f"{MODEL}_tiny_result{suffix}", rows)
    done = brought(path, model=MODEL, store=store_path, out=tmp_path / "m.zarr")
    made = open_store(tmp_path / "m.zarr")
    assert done.facts["formats"] == ["vlmevalkit"] and done.facts["stores"][0]["by_id"] == 80
    assert dict(made.samples.select("id", "response").iter_rows()) == {row["id"]: row["response"] for row in rows}
    verdicts = dict(read_grades(made, "imported@1").table.select("id", "correct").iter_rows())
    assert verdicts == {row["id"]: row["correct"] for row in rows}


def test_the_model_is_the_folder_that_the_name_begins_with(store_path, tmp_path):
    folder = tmp_path / "GPT4o_20241120" / "T20260101_G1"
    folder.mkdir(parents=True)
    path = vlmevalkit(folder / "GPT4o_20241120_MMBench_DEV_EN.json", told(store_path))
    brought(path, store=store_path, out=tmp_path / "m.zarr")
    assert open_store(tmp_path / "m.zarr").manifest.recorded["model"] == "GPT4o_20241120"
    lone = vlmevalkit(tmp_path / "GPT4o_MMBench.json", told(store_path))
    with pytest.raises(InvalidInputError, match="do not say which model has answered"):
        brought(lone, store=store_path, out=tmp_path / "n.zarr")


def test_predictions_without_verdicts_and_failures(store_path, tmp_path):
    rows = told(store_path)
    rows[3] = {**rows[3], "response": "Failed to obtain answer via API. 429"}
    path = vlmevalkit(tmp_path / "m.json", rows, hit=None)
    done = brought(path, model="m", store=store_path, out=tmp_path / "m.zarr")
    assert "no verdicts (column hit or eval_score)" in done.facts["notes"][0]
    assert [left["id"] for left in done.facts["failed"]] == [rows[3]["id"]] and len(
        open_store(tmp_path / "m.zarr")
    ) == 79
    step("grade", store=tmp_path / "m.zarr")


def test_options_in_another_order_are_another_question(store_path, tmp_path):
    rows = [row for row in told(store_path) if row["choices"]]
    turned = [{**row, "choices": row["choices"][::-1]} for row in rows]
    with pytest.raises(InvalidInputError, match="asks otherwise: its choices differ"):
        brought(vlmevalkit(tmp_path / "m.json", turned), model="m", store=store_path, out=tmp_path / "m.zarr")


def test_shares_are_no_verdicts(tmp_path):
    rows = [{"index": n, "prediction": "a", "eval_score": score} for n, score in enumerate([0, 1, 0.5, None])]
    write_sheet(tmp_path / "m.xlsx", rows)
    done = brought(tmp_path / "m.xlsx", model="m", out=tmp_path / "m.zarr")
    assert read_grades(open_store(tmp_path / "m.zarr"), None).table["correct"].to_list() == [False, True, None, None]
    assert "accuracy 0.500 by imported@1 on 2, 2 are without a verdict" in done.text


def _bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b"\0" * ((128 << 20) + 1))


def _cut(path):
    write_sheet(path, [{"index": n, "prediction": "a"} for n in range(99)])
    path.write_bytes(path.read_bytes()[:-300])


def _twice(path):
    write_sheet(path, [{"index": 1, "prediction": "a", "a": 1}])
    import openpyxl

    book = openpyxl.load_workbook(path)
    book.active["C1"] = "index"
    book.save(path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_bomb, "is not unpacked: .* unpacks to 134,217,729 bytes"),
        (_cut, "is no whole zip file"),
        (_twice, "column 'index' stands twice in the header of m.xlsx"),
        (lambda path: path.write_bytes(b"PK\x03\x04 nothing"), "is no whole zip file"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "is no Excel workbook"),
        (lambda path: write_sheet(path, [{"index": 1, "answer": "a"}]), "the column prediction is missing"),
        (lambda path: write_sheet(path, [{"index": 1.5, "prediction": "a"}]), "'index' in row 2 of m.xlsx holds float"),
        (
            lambda path: write_sheet(path, [{"index": 1, "prediction": "a", "hit": 7}]),
            "'hit' in row 2 .* true or",
        ),
    ],
)
def test_bad_workbooks_leave_nothing(tmp_path, spoil, says):
    spoil(tmp_path / "m.xlsx")
    with pytest.raises(InvalidInputError, match=says) as caught:
        brought(tmp_path / "m.xlsx", model="m", format="vlmevalkit", out=tmp_path / "m.zarr")
    assert caught.value.lines.count("\n") <= 1 and not (tmp_path / "m.zarr").exists()
