"""References to stores: paths stay paths, URIs keep their slashes, nothing leads elsewhere."""

from pathlib import Path

import pytest

from relope.errors import InvalidInputError
from relope.locations import Location, as_location, is_uri, local_folder, parse_uri, store_ref
from relope.spec import EvaluateSpec, FitSpec, build

GOOD = [
    ("s3://bucket/x.zarr", "bucket", "x.zarr", "x.zarr"),
    ("s3://bucket/team a/x.zarr/", "bucket", "team a/x.zarr", "x.zarr"),
    ("gs://bucket", "bucket", "", "bucket"),
    ("az://container/a/b", "container", "a/b", "b"),
    ("hf://datasets/team/repo", "datasets/team/repo", "", "repo"),
    ("hf://datasets/team/repo/a/x.zarr", "datasets/team/repo", "a/x.zarr", "x.zarr"),
    ("hf://buckets/team/bucket/x.zarr", "buckets/team/bucket", "x.zarr", "x.zarr"),
    ("file:///mnt/team%20a/x.zarr", "", "/mnt/team a/x.zarr", "x.zarr"),
]
BAD = [
    "ftp://x/y",
    "s3://",
    "s3://b//x",
    "s3://b/../x",
    "s3://b/.hidden",
    "s3://b/x?version=1",
    "s3://b/x#y",
    "s3://b/a\nb",
    "hf://datasets/team",
    "hf://team/repo/x",
    "file://mnt/x",
    "file://host/x",
    "s3:/b/x",
    "hf:/datasets/a/b",
]


@pytest.mark.parametrize(("uri", "root", "key", "name"), GOOD)
def test_uris(uri, root, key, name):
    location = parse_uri(uri)
    assert (location.root, location.key, location.name) == (root, key, name)
    assert location.uri == uri.rstrip("/") and is_uri(uri)
    assert build("fit", {"method": "probe", "store": uri}).store == uri.rstrip("/")
    inner = location.below("y.zarr")
    assert inner == parse_uri(inner.uri) and inner.name == "y.zarr"


@pytest.mark.parametrize("uri", BAD)
def test_bad_uris(uri):
    with pytest.raises(InvalidInputError) as said:
        build("fit", {"method": "probe", "store": uri})
    assert "value error" not in str(said.value) and "store=" in str(said.value)


def test_paths_stay_paths():
    assert FitSpec(method="probe", store=Path("runs/x.zarr/")).store == "runs/x.zarr"
    assert FitSpec(method="probe", store="runs//x.zarr/").store == "runs/x.zarr"
    assert EvaluateSpec(store="a", large_store=None).large_store == ()
    assert EvaluateSpec(store="a", large_store="./b/").large_store == (store_ref("./b/"),)
    assert not is_uri("a/b") and not is_uri(Path("s3"))
    assert as_location("x y").key == str(Path.cwd() / "x y")
    assert parse_uri(as_location("x y").uri).key == as_location("x y").key


def test_which_references_are_folders_of_this_machine():
    assert local_folder("a/b") == Path("a/b") and local_folder(Path("x y")) == Path("x y")
    assert local_folder("file:///mnt/team%20a/x.zarr/") == Path("/mnt/team a/x.zarr")
    assert local_folder("s3://bucket/x.zarr") is None and local_folder("hf://datasets/team/repo") is None


def test_a_uri_that_was_a_path_is_noticed():
    with pytest.raises(InvalidInputError, match="one slash after the scheme") as said:
        is_uri(Path("s3://bucket/x"))
    assert said.value.hint == "write 's3://bucket/x', as text"
    with pytest.raises(InvalidInputError) as said:
        build("fit", {"method": "probe", "store": "s3:/bucket/x"})
    assert said.value.hint == "write 's3://bucket/x', as text"


def test_a_folder_with_a_strange_name_below():
    assert Location("file:///m", "file", "", "/m").below("a#b").key == "/m/a#b"
    assert parse_uri(Location("file:///m", "file", "", "/m").below("a#b").uri).key == "/m/a#b"
