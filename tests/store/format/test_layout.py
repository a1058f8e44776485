import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from relope.errors import InvalidInputError, StoreError
from relope.store import block_folder, grades_path, part_folder, part_id, plan_path
from relope.store.format.layout import disk_bytes, guard, is_part_id, read_json


def test_part_id_is_the_digest_of_recipe_and_ordered_ids() -> None:
    expected = hashlib.sha256('["r",["é","b"]]'.encode()).hexdigest()[:32]
    assert part_id("r", ["é", "b"]) == expected
    assert part_id("r", ["b", "é"]) != expected


@pytest.mark.parametrize("name", ["../" * 10 + "ab", "A" * 32, "a" * 31, "a" * 33, "a" * 32 + "\n", "", ".", None, 7])
def test_only_hex_names_are_part_ids(name: object) -> None:
    assert not is_part_id(name)
    with pytest.raises(StoreError, match="no part id"):
        part_folder(Path("x.zarr"), name)  # type: ignore[arg-type]


def test_paths() -> None:
    store = Path("runs/x.zarr")
    assert grades_path(store, "vqa-soft", "2.1") == Path("runs/x.zarr/grades/vqa-soft@2.1.parquet")
    assert plan_path(store) == Path("runs/x.zarr/plan.json")
    assert block_folder(store, 24) == Path("runs/x.zarr/block_24")
    with pytest.raises(InvalidInputError, match="letters"):
        grades_path(store, "../x", "1")


def test_guard_refuses_links_folders_and_absent_files(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("secret")
    store = tmp_path / "x.zarr"
    store.mkdir()
    (store / "link").symlink_to(outside / "f")
    (store / "folder").symlink_to(outside)
    (store / "plain").mkdir()
    for name, why in {"link": "symbolic", "folder/f": "symbolic", "plain": "no plain file", "gone": "missing"}.items():
        with pytest.raises(StoreError, match=why):
            guard(store, store / name)


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[" * 100_000, b"9" * 5_000, b""])
def test_broken_json_is_a_store_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "f.json").write_bytes(text)
    with pytest.raises(StoreError, match=r"f\.json in .* is damaged"):
        read_json(tmp_path, tmp_path / "f.json")


def test_what_is_removed_while_it_is_counted_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/one", "a/b/two", "three"):
        (tmp_path / name).write_bytes(b"12345")
    assert disk_bytes(tmp_path) == 15 and disk_bytes(tmp_path / "three") == 5
    real = os.walk

    def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        listed = list(real(folder))
        (tmp_path / "a/one").unlink(missing_ok=True)
        yield from listed

    monkeypatch.setattr(os, "walk", walk)
    assert disk_bytes(tmp_path) == 10 and disk_bytes(tmp_path / "gone") == 0
