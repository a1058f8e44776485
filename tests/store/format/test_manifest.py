import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_stores import make_manifest, make_store

from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.provenance import digest
from relope.store import create_or_open, read_manifest


def edit(path: Path, **changes: Any) -> None:
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"]["relope"].update(changes)
    (path / "zarr.json").write_text(json.dumps(document))


def test_recipe_id_is_the_digest_of_the_identity_alone() -> None:
    manifest = make_manifest(identity={"b": (1, 2), "a": {"é": None}})
    assert manifest.recipe_id == hashlib.sha256('{"a":{"é":null},"b":[1,2]}'.encode()).hexdigest()
    assert make_manifest(identity={"b": [1, 2], "a": {"é": None}}, grader="other").recipe_id == manifest.recipe_id
    assert make_manifest(identity={"b": [2, 1], "a": {"é": None}}).recipe_id != manifest.recipe_id


def test_round_trip(tmp_path: Path) -> None:
    manifest = make_manifest(tokens="lean", token_layers=(2,), identity={"sizes": {10: "x", 9: (1.5, None)}})
    create_or_open(tmp_path / "x.zarr", manifest)
    assert read_manifest(tmp_path / "x.zarr") == manifest


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dtype": "float16"}, "103,936"),
        ({"layers": ()}, "one or more"),
        ({"layers": (-1, 2)}, "0 or above"),
        ({"hidden_size": 0}, "at least 1"),
        ({"token_columns": ()}, "distinct"),
        ({"token_columns": ("kind", "kind")}, "distinct"),
        ({"tokens": "some"}, "all or lean"),
        ({"tokens": "lean"}, "lean needs some"),
        ({"tokens": "lean", "token_layers": (4,)}, "do not fit"),
        ({"token_layers": (2,)}, "all takes all"),
    ],
)
def test_values_that_are_not_allowed(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        make_manifest(**changes)


def test_absent_path_names_the_nearest_store(tmp_path: Path) -> None:
    for name in ("aokvqa.zarr", "mmmu.zarr"):
        create_or_open(tmp_path / name, make_manifest())
    with pytest.raises(NotFoundError, match=r"no store at .*/aokvq\.zarr; did you mean .*/aokvqa\.zarr\?"):
        read_manifest(tmp_path / "aokvq.zarr")
    with pytest.raises(NotFoundError, match=r"\(near it: aokvqa\.zarr, mmmu\.zarr\)$") as caught:
        read_manifest(tmp_path / "something")
    assert caught.value.hint == f"make one with `relope extract --out {tmp_path / 'something'}`"
    with pytest.raises(NotFoundError, match="there is no folder"):
        read_manifest(tmp_path / "no" / "such.zarr")


def test_folders_that_are_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no store"):
        read_manifest(tmp_path)
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(StoreError, match="is Zarr but no relope store"):
        read_manifest(tmp_path)
    (tmp_path / "zarr.json").write_text("[1, 2")
    with pytest.raises(StoreError, match=r"zarr\.json in .* is damaged: not JSON"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format_version": 7}, r"has store format 7, newer than this relope reads \(3\)\nupgrade relope or"),
        ({"format_version": 0}, "has store format 0; this relope reads 1 to 3"),
        ({"format_version": "1"}, "format_version is '1'"),
        ({"surprise": 1}, "surprise: "),
        ({"hidden_size": "6"}, "hidden_size: "),
        ({"dtype": "float16"}, "not allowed"),
        ({"identity": {"model": "other"}}, "does not hash to its recipe_id"),
        ({"recipe_id": "0" * 64}, "does not hash to its recipe_id"),
    ],
)
def test_manifests_of_another_format_or_damaged(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    create_or_open(tmp_path / "x.zarr", make_manifest())
    edit(tmp_path / "x.zarr", **changes)
    with pytest.raises(StoreError) as caught:
        read_manifest(tmp_path / "x.zarr")
    assert re.search(why, caught.value.lines) and caught.value.lines.count("\n") <= 1


def test_format_version_3_is_what_is_on_disk(tmp_path: Path) -> None:
    """A change of any of these bytes is a change of format: bump FORMAT_VERSION and add a reader test."""
    made = make_store(tmp_path / "x.zarr", parts=[["c"]])
    fields = json.loads((made.path / "zarr.json").read_text())["attributes"]["relope"]
    seal = fields.pop("sha256")
    assert seal == digest(fields), "the digest of everything else"
    assert fields == {
        "format_version": 3,
        "recipe_id": made.manifest.recipe_id,
        "identity": {"model": {"name": "tiny", "digest": "ab"}, "prompt": "Q: {question}", "dtype": "bfloat16"},
        "layers": [2, 3],
        "hidden_size": 6,
        "dtype": "bfloat16",
        "token_columns": ["position", "kind"],
        "tokens": "all",
        "token_layers": [2, 3],
        "recorded": {"device": "cpu", "batch_size": 4},
        "grader": "exact",
    }
    arrays = {
        f"{name}/{file}"
        for name in ("hidden/2", "hidden/3", "last/2", "last/3", "answer", "tokens")
        for file in ("zarr.json", "c/0/0")
    }
    files = {path.relative_to(made.folder()).as_posix() for path in made.folder().rglob("*") if path.is_file()}
    assert files == arrays | {"zarr.json", "hidden/zarr.json", "last/zarr.json", "samples.parquet", "COMMIT.json"}
