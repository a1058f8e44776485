"""A whole store through other people's libraries."""

import warnings
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
import tensorstore
import zarr
from made_stores import Made


def joined(kept: Made, name: str, ids: list[str]) -> np.ndarray[Any, Any]:
    """What an array of a part must hold, from what went in."""
    kind, _, layer = name.partition("/")
    captures = [kept.captures[sample] for sample in ids]
    if kind == "hidden":
        return np.concatenate([capture.hidden[int(layer)] for capture in captures])
    if kind == "last":
        return np.stack([capture.hidden[int(layer)][-1] for capture in captures])
    return np.stack([c.answer for c in captures]) if kind == "answer" else np.concatenate([c.tokens for c in captures])


@pytest.mark.parametrize("name", ["hidden/2", "hidden/3", "last/2", "last/3", "answer", "tokens"])
@pytest.mark.parametrize("number", [0, 2])
def test_arrays(kept: Made, name: str, number: int) -> None:
    ids = {0: ["a", "b", "c"], 2: ["e", "f", "g"]}[number]
    path, expected = str(kept.folder(number) / name), joined(kept, name, ids)
    np.testing.assert_array_equal(zarr.open_array(path, mode="r")[:], expected)
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        np.testing.assert_array_equal(zarr.open_array(path, mode="r")[:], expected)
    driver = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
    np.testing.assert_array_equal(tensorstore.open(driver, read=True).result().read().result(), expected)


def test_zarr_walks_from_the_root(kept: Made) -> None:
    with warnings.catch_warnings():
        # zarr-python remarks on COMMIT.json and samples.parquet, which are not Zarr.
        warnings.filterwarnings("ignore", message="Object at", category=UserWarning)
        root = zarr.open_group(str(kept.path), mode="r")
        assert root.attrs["relope"]["recipe_id"] == kept.manifest.recipe_id
        assert set(root["parts"].group_keys()) == set(kept.parts)
        part = root["parts"][kept.parts[0]]
        assert set(part["hidden"].array_keys()) == {"2", "3"}
        assert part["hidden/2"].attrs["logical_dtype"] == "bfloat16"
        assert part["tokens"].attrs["columns"] == ["position", "kind"]


def test_samples_open_in_polars_pandas_and_duckdb(kept: Made) -> None:
    path: Path = kept.folder(0) / "samples.parquet"
    expected = [("a", "test", 0, 3, [-0.5]), ("b", "test", 3, 300, [-0.5]), ("c", "train", 303, 1, [-0.5])]
    columns = ["id", "split", "first_token", "n_tokens", "logprobs"]
    assert pl.read_parquet(path).select(columns).rows() == expected
    frame = pd.read_parquet(path)[columns]
    assert [(*row[:4], list(row[4])) for row in frame.itertuples(index=False)] == expected
    assert duckdb.sql(f"select {', '.join(columns)} from '{path}'").fetchall() == expected
