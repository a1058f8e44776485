"""E4: one reader of grades refuses what is no verdict, whoever asks."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from made_stores import Made, furnish, make_store

from relope.errors import RelopeError
from relope.store import convert, open_store
from relope.store.grades import correct_of, labelled, parsed_answers, read_grades
from relope.store.share.pull import pull
from relope.store.share.push import push
from relope.store.share.remote_reader import RemoteStore

IDS = list("abcdefg")
WRONG: dict[str, tuple[dict[str, object], str]] = {
    "halves": ({"id": IDS, "correct": [0.5] * 7}, "its correct is Float64, not true or false"),
    "numbers": ({"id": IDS, "correct": [1] * 7}, "its correct is Int64, not true or false"),
    "text": ({"id": IDS, "correct": ["yes"] * 7}, "its correct is String, not true or false"),
    "twice": ({"id": [*IDS[:6], "a"], "correct": [True] * 7}, "2 ids are repeated or null (first: a)"),
    "null ids": ({"id": [*IDS[:6], None], "correct": [True] * 7}, "1 ids are repeated or null (first: None)"),
    "numbered ids": ({"id": list(range(7)), "correct": [True] * 7}, "its id is Int64, not text"),
    "no correct": ({"id": IDS}, "its correct is absent, not true or false"),
    "parsed numbers": ({"id": IDS, "correct": [True] * 7, "parsed": [1] * 7}, "its parsed is Int64, not text"),
}
READERS: dict[str, Callable[[Made, Path], object]] = {
    "read": lambda made, out: read_grades(open_store(made.path), "exact@1"),
    "labelled": lambda made, out: labelled(open_store(made.path), ["test"], "exact@1"),
    "parsed": lambda made, out: parsed_answers(open_store(made.path), open_store(made.path).index.numbers(None), None),
    "large": lambda made, out: correct_of(open_store(made.path), open_store(made.path).samples),
    "convert": lambda made, out: convert(made.path, out),
    "push": lambda made, out: push(made.path, out.as_uri()),
    "pull": lambda made, out: pull(made.path.as_uri(), out),
    "remote": lambda made, out: RemoteStore.open_uri(made.path.as_uri()),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return furnish(make_store(tmp_path_factory.mktemp("e4") / "x.zarr"))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", WRONG)
def test_e4_what_is_no_verdict_is_refused(made: Made, tmp_path: Path, kind: str, reader: str) -> None:
    columns, why = WRONG[kind]
    pl.DataFrame(columns).write_parquet(made.path / "grades" / "exact@1.parquet")
    with pytest.raises(RelopeError) as caught:
        READERS[reader](made, tmp_path / "out.zarr")
    assert why in str(caught.value) and len(caught.value.lines.splitlines()) <= 2


def test_e4_samples_without_a_grade_are_named(made: Made) -> None:
    pl.DataFrame({"id": IDS[1:], "correct": [True] * 6}).write_parquet(made.path / "grades" / "exact@1.parquet")
    with pytest.raises(RelopeError, match=r"1 of 2 samples of .* have no grade by exact@1 \(first: a\)"):
        labelled(open_store(made.path), ["test"], None)
