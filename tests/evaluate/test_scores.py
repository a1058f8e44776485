"""Scores files: what is written is read, what is no score is refused."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from relope.errors import InvalidInputError, NotFoundError
from relope.evaluate.scores import ScoresMeta, align, read_scores, write_scores

META = ScoresMeta("probe", 1.5, 0.25, "recipe", "content", "abc", 3, True, note="a note")


def test_round_trip(tmp_path):
    path = tmp_path / "runs.zarr.scores" / "probe.parquet"
    write_scores(path, ["b", "a"], np.array([0.25, 1.0]), META)
    read = read_scores(path)
    assert read.ids == ("b", "a") and read.scores.tolist() == [0.25, 1.0] and read.scores.dtype == np.float32
    assert read.meta == META
    assert pl.read_parquet(path).schema == {"id": pl.String, "score": pl.Float32}


def test_same_scores_give_the_same_bytes(tmp_path):
    for name in ("one.parquet", "two.parquet"):
        write_scores(tmp_path / name, ["a"], np.array([0.5]), META)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


@pytest.mark.parametrize(
    ("ids", "scores", "message"),
    [
        (["a", "b"], [0.5, float("nan")], r"1 of 2 scores are not in \[0, 1\] \(first: b has nan"),
        (["a", "b"], [0.5, float("inf")], "b has inf"),
        (["a", "b"], [-0.1, 0.5], "a has -0.1"),
        (["a", "a"], [0.5, 0.5], "repeated or null"),
        (["a"], [0.5, 0.5], "1 ids but scores of shape"),
    ],
)
def test_what_is_no_score_is_never_written(tmp_path, ids, scores, message):
    with pytest.raises(InvalidInputError, match=message):
        write_scores(tmp_path / "x.parquet", ids, np.array(scores), META)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"]}, "lacks the columns score"),
        ({"id": ["a"], "score": ["high"]}, "must be String and Float32"),
        ({"id": ["a", "a"], "score": [0.1, 0.2]}, "repeated or null"),
        ({"id": ["a"], "score": [1.5]}, "not in"),
        ({"id": ["a"], "score": pl.Series([None], dtype=pl.Float32)}, "not in"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path, columns, message):
    path = tmp_path / "bad.parquet"
    write_scores(tmp_path / "good.parquet", ["a"], np.array([0.5]), META)
    facts = pl.read_parquet_metadata(tmp_path / "good.parquet")["relope"]
    pl.DataFrame(columns).write_parquet(path, metadata={"relope": facts})
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_scores(path)
    assert "bad.parquet" in str(caught.value) and caught.value.lines.count("\n") <= 1


def test_missing_foreign_and_unsigned_files_are_told_apart(tmp_path):
    with pytest.raises(NotFoundError, match=r"none\.parquet does not exist$") as caught:
        read_scores(tmp_path / "none.parquet")
    assert "relope predict" in caught.value.hint
    (tmp_path / "text.parquet").write_text("id,score\n")
    with pytest.raises(InvalidInputError, match="not a readable Parquet file"):
        read_scores(tmp_path / "text.parquet")
    pl.DataFrame({"id": ["a"], "score": [0.5]}).write_parquet(tmp_path / "plain.parquet")
    with pytest.raises(InvalidInputError, match="no 'relope' metadata"):
        read_scores(tmp_path / "plain.parquet")
    frame = pl.DataFrame({"id": ["a"], "score": [0.5]})
    frame.write_parquet(tmp_path / "part.parquet", metadata={"relope": '{"method": "probe"}'})
    with pytest.raises(InvalidInputError, match="metadata that cannot be read"):
        read_scores(tmp_path / "part.parquet")


def test_align_follows_the_labels_and_ignores_other_samples(tmp_path):
    write_scores(tmp_path / "s.parquet", ["a", "b", "c"], np.array([0.25, 0.5, 0.75]), META)
    aligned = align(pl.DataFrame({"id": ["c", "a"]}), read_scores(tmp_path / "s.parquet"))
    assert aligned.tolist() == [0.75, 0.25]


def test_align_counts_and_names_what_is_missing(tmp_path):
    write_scores(tmp_path / "s.parquet", ["a"], np.array([0.25]), dataclasses.replace(META, method="relope"))
    with pytest.raises(InvalidInputError, match="lacks 4 of the 5") as caught:
        align(pl.DataFrame({"id": ["a", "b", "c", "d", "e"]}), read_scores(tmp_path / "s.parquet"))
    assert str(caught.value).endswith("b, c, d)")
    assert "`relope predict --router …`, the router of relope" in caught.value.hint


def test_nobody_is_told_to_score_samples_that_a_router_learned_from(tmp_path):
    labels = pl.DataFrame({"id": ["a", "b"], "split": ["test", "train"]})
    for learned, says in (
        (["train"], "`relope fit probe --folds 5 --split test,train` scores them out of fold"),
        ([], "`relope predict --router … --split test,train`"),
    ):
        meta = dataclasses.replace(META, method="probe", learned=learned)
        write_scores(tmp_path / "s.parquet", ["a"], np.array([0.25]), meta)
        with pytest.raises(InvalidInputError) as caught:
            align(labels, read_scores(tmp_path / "s.parquet"))
        assert says in caught.value.hint
