"""E10, stores and routers: whatever a damaged file holds ends in a line or two."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from made_stores import make_store, reseal

from relope.errors import RelopeError, StoreError
from relope.probes.files import check_records, check_words, save_state
from relope.probes.router import load_router
from relope.store import open_store
from relope.store.grades import rows_of

RECORD = {
    "method": "probe", "layer": 3, "seed": 0, "fingerprint": "f", "recipe_id": "r", "n_samples": 1, "seconds_fit": 0.1,
    "settings": {}, "bytes_read": 0, "identity": {}, "splits": ["train"],
}  # fmt: skip
ELSE = [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b'{"params": 3}', b'{"width": 1}']
WRONG: list[Any] = [None, -1.5, "x", [], {"a": 1}, 2**70]


@pytest.mark.parametrize("key", sorted(RECORD))
def test_e10_router_records_of_wrong_types(tmp_path: Path, key: str) -> None:
    save_state(tmp_path, {"params": {}, "width": 3}, {"x": np.zeros(3, np.float32)})
    for value in WRONG:
        (tmp_path / "router.json").write_text(json.dumps({**RECORD, key: value, "versions": []}))
        with pytest.raises(RelopeError) as caught:
            load_router(tmp_path)
        assert len(caught.value.lines.splitlines()) <= 2


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b'{"params": 3}', b'{"width": 1}']
)
@pytest.mark.parametrize("name", ["router.json", "probe.json"])
def test_e10_router_files_that_hold_something_else(tmp_path: Path, name: str, content: bytes) -> None:
    save_state(tmp_path, {"params": {}, "width": 3}, {"x": np.zeros(3, np.float32)})
    (tmp_path / "router.json").write_text(json.dumps(RECORD))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RelopeError) as caught:
        load_router(tmp_path)
    assert len(caught.value.lines.splitlines()) <= 2


def test_e10_records_and_words_of_wrong_types(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    for record in (None, [], {}, {"bytes": 1}, {"bytes": 1, "sha256": 3}):
        with pytest.raises(StoreError):
            check_records(tmp_path, {"a": record})
    for words in (None, {}, [1], ["a", "a"], [], "ab"):
        with pytest.raises(StoreError):
            check_words(tmp_path, words)


@pytest.mark.parametrize("column", ["split", "dataset"])
def test_e10_samples_without_a_split_or_data_set(tmp_path: Path, column: str) -> None:
    made = make_store(tmp_path / "x.zarr")
    path = made.folder() / "samples.parquet"
    pl.read_parquet(path).with_columns(pl.lit(None, pl.String).alias(column)).write_parquet(path)
    reseal(made.folder())
    with pytest.raises(StoreError, match=f"samples of .* have no {column}"):
        rows_of(open_store(made.path), ["train"])
