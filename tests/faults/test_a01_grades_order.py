"""A1: which grades count is kept inside the store, and nothing but `grade` changes it."""

import os
import shutil

import polars as pl
import pytest

from relope import steps
from relope.errors import StoreError
from relope.provenance import frame_bytes
from relope.spec import build
from relope.store import open_store
from relope.store.grade_files import orders
from relope.store.grades import counting, read_grades

EXTRACT = {"model": "tiny-vl", "dataset": "tiny", "split": "test", "limit": 80, "device": "cpu"}


def step(name, **values):
    return steps.run(
        build(name, {key: str(value) if hasattr(value, "parts") else value for key, value in values.items()})
    )


def bytes_of(store):
    return {path.name: path.read_bytes() for path in (store / "grades").iterdir()}


def counted(store):
    with open_store(store) as opened:
        return counting(opened)


@pytest.fixture
def graded(store_path, tmp_path):
    """A copy of the small store, judged by its own grader and then by another one."""
    out = shutil.copytree(store_path, tmp_path / "tiny.zarr")
    assert counted(out).startswith("auto@")
    step("grade", store=out, grader="exact")
    assert counted(out).startswith("exact@") and len(orders(out)) == 2
    return out


def test_a1_the_same_extract_again_writes_nothing(graded):
    before = bytes_of(graded)
    done = step("extract", **EXTRACT, out=graded)
    assert done.facts["computed"] == 0 and done.facts["grader"] == counted(graded)
    assert bytes_of(graded) == before and counted(graded).startswith("exact@")
    assert done.facts["accuracy"] == pytest.approx(read_grades(open_store(graded), None).table["correct"].mean())


def test_a1_an_extract_that_adds_samples_grades_them_by_what_counts(graded):
    step("extract", **{**EXTRACT, "limit": 84}, out=graded)
    assert counted(graded).startswith("exact@")
    assert len(read_grades(open_store(graded), None).table) == 244
    step("extract", **{**EXTRACT, "limit": 86}, grader="auto", out=graded)  # makes these too, and leaves the choice
    assert counted(graded).startswith("exact@")
    tables = [read_grades(open_store(graded), name).table for name in orders(graded)]
    assert [len(table) for table in tables] == [246, 246]


def test_a1_grade_sets_which_ones_count_and_again_changes_nothing(graded):
    before = bytes_of(graded)
    assert step("grade", store=graded, grader="exact").reused and bytes_of(graded) == before
    assert not step("grade", store=graded).reused  # its own grader
    assert counted(graded).startswith("auto@")
    once = bytes_of(graded)
    assert step("grade", store=graded).reused and bytes_of(graded) == once


def test_a1_times_of_files_and_copies_say_nothing(graded, tmp_path):
    copy = shutil.copytree(graded, tmp_path / "copy.zarr", copy_function=shutil.copyfile)
    for path in (copy / "grades").glob("auto@*"):
        os.utime(path)
    for path in (copy / "grades").glob("exact@*"):
        os.utime(path, (1, 1))
    assert counted(copy) == counted(graded)


def test_a1_convert_keeps_the_order_and_further_grades(graded, tmp_path):
    step("store convert", store=graded, out=tmp_path / "z.zarr", codec="zstd")
    assert orders(tmp_path / "z.zarr") == orders(graded)
    step("grade", store=tmp_path / "z.zarr", grader="auto")
    step("store convert", store=graded, out=tmp_path / "z.zarr", codec="zstd")
    assert counted(tmp_path / "z.zarr").startswith("auto@")


def test_a1_push_and_pull_keep_the_order(graded, tmp_path, team):
    uri = f"{team}/tiny.zarr"
    step("store push", store=graded, uri=uri)
    assert counted(uri) == counted(graded)
    step("store pull", uri=uri, out=tmp_path / "here.zarr")
    assert orders(tmp_path / "here.zarr") == orders(graded)
    step("grade", store=graded, grader="auto")
    step("store push", store=graded, uri=uri)
    assert counted(uri).startswith("auto@")
    assert counted(tmp_path / "here.zarr").startswith("exact@")
    step("store pull", uri=uri, out=tmp_path / "here.zarr")
    assert orders(tmp_path / "here.zarr") == orders(graded)
    assert not [name for name in step("store push", store=graded, uri=uri).facts["besides"] if "grades" in name]
    step("grade", store=uri, grader="exact")
    assert counted(uri).startswith("exact@") and step("grade", store=uri, grader="exact").reused


def test_a1_merge_keeps_the_order(graded, tmp_path):
    step("store merge", stores=[str(graded), str(graded)], out=tmp_path / "both.zarr")
    assert orders(tmp_path / "both.zarr") == orders(graded)


def test_a1_grades_without_an_order_fall_back_on_the_stores_own_grader(graded, caplog):
    for path in (graded / "grades").iterdir():
        path.write_bytes(frame_bytes(pl.read_parquet(path)))
    assert set(orders(graded).values()) == {0}
    newest = next((graded / "grades").glob("exact@*"))
    os.utime(newest)
    assert counted(graded).startswith("auto@") and "kept no order" in caplog.text and "exact@" in caplog.text
    step("grade", store=graded, grader="exact")
    caplog.clear()
    assert counted(graded).startswith("exact@") and not caplog.text


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (pl.DataFrame({"id": ["a"], "correct": [0.5]}), "correct .true or false"),
        (pl.DataFrame({"id": ["a"], "correct": ["yes"]}), "correct .true or false"),
        (pl.DataFrame({"id": ["a", "a"], "correct": [True, False]}), "repeated or null"),
        (pl.DataFrame({"id": ["a", None], "correct": [True, False]}), "repeated or null"),
        (pl.DataFrame({"correct": [True]}), "must have the columns"),
    ],
)
def test_a1_one_reader_refuses_what_is_no_table_of_grades(graded, frame, says):
    path = next((graded / "grades").glob("exact@*"))
    path.write_bytes(frame_bytes(frame, {"relope": f'{{"grader": "{path.stem}", "order": 2}}'}))
    with pytest.raises(StoreError, match=says):
        read_grades(open_store(graded), None)
    path.write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="damaged"):
        counted(graded)


def test_a1_a_renamed_file_is_refused(graded):
    path = next((graded / "grades").glob("exact@*"))
    path.rename(path.with_name("mmmu@1.parquet"))
    with pytest.raises(StoreError, match="holds the grades of exact@"):
        counted(graded)
