import errno
import json
import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_stores import HIDDEN, Made, make_capture, make_manifest, make_row, make_store, tree_bytes, write_part

from relope.errors import InvalidInputError, OutputError, StoreError
from relope.store import ActivationStore, create_or_open, part_id, read_manifest, verify
from relope.types import Capture


def refuse(code: int) -> Callable[..., Any]:
    def _refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return _refuse


def test_reopening_keeps_the_first_manifest(tmp_path: Path) -> None:
    first = create_or_open(tmp_path / "deep/x.zarr", make_manifest())
    again = create_or_open(tmp_path / "deep/x.zarr", make_manifest(recorded={"device": "cuda"}, grader="other"))
    assert again.manifest == first.manifest == read_manifest(tmp_path / "deep/x.zarr")
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["x.zarr"]


def test_an_empty_folder_becomes_a_store(tmp_path: Path) -> None:
    assert create_or_open(tmp_path, make_manifest()).path == tmp_path
    assert read_manifest(tmp_path) == make_manifest()


def test_a_link_to_an_empty_folder_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "x.zarr").symlink_to(tmp_path / "disk")
    made = make_store(tmp_path / "x.zarr")
    assert verify(made.path, deep=True) == []
    assert (tmp_path / "disk/zarr.json").is_file()


def test_fields_outside_the_identity_must_agree_too(made: Made) -> None:
    with pytest.raises(StoreError, match=r"another recipe: hidden_size was 6, now 7$"):
        create_or_open(made.path, make_manifest(hidden_size=7))


def test_another_recipe_is_refused_by_field(made: Made) -> None:
    identity = {"model": {"name": "tiny", "digest": "cd"}, "prompt": "Q: {question}", "limit": 3}
    before = tree_bytes(made.path)
    with pytest.raises(StoreError) as caught:
        create_or_open(made.path, make_manifest(identity=identity, layers=(2,)))
    assert str(caught.value) == (
        f'{made.path} holds another recipe: dtype was "bfloat16", now absent; limit was absent, now 3; '
        'model.digest was "ab", now "cd"; layers was (2, 3), now (2,); token_layers was (2, 3), now (2,)'
    )
    assert caught.value.hint.startswith("use a new --out, e.g. ")
    assert tree_bytes(made.path) == before


def test_many_and_long_differences_stay_short(made: Made) -> None:
    identity = {f"field{number}": "long" * 100 for number in range(9)}
    with pytest.raises(StoreError, match=r"; and 7 more \(field4, field5, .*, model, prompt\)$") as caught:
        create_or_open(made.path, make_manifest(identity=identity))
    assert len(str(caught.value)) < 700


def test_other_folders_and_files_are_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match="folder with other files in it, not a store: nothing was written"):
        create_or_open(tmp_path, make_manifest())
    with pytest.raises(StoreError, match="is a file, not a store"):
        create_or_open(tmp_path / "thesis.tex", make_manifest())
    with pytest.raises(OutputError, match=r"cannot write .*x\.zarr: (Not a directory|File exists)$"):
        create_or_open(tmp_path / "thesis.tex" / "x.zarr", make_manifest())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(os, "mkdir", refuse(code))
    with pytest.raises(OutputError, match=rf"cannot write .*: {os.strerror(code)}$") as caught:
        create_or_open(tmp_path / "x.zarr", make_manifest())
    assert str(caught.value).count("cannot write") == 1 and caught.value.hint.startswith("it is read-only to you")


def test_two_creators_at_once_share_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def beaten(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        create_or_open(tmp_path / "x.zarr", make_manifest(grader="first"))
        rename(source, target)

    monkeypatch.setattr(os, "rename", beaten)
    assert create_or_open(tmp_path / "x.zarr", make_manifest(grader="second")).manifest.grader == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]


def test_what_was_sealed_survives_a_full_disk(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    captures = {"h": make_capture("h", made.manifest, 5)}
    before = tree_bytes(made.path)
    with monkeypatch.context() as patch, pytest.raises(OutputError, match=r"No space left on device$"):
        patch.setattr(os, "fsync", refuse(errno.ENOSPC))
        write_part(made.writer, ["h"], captures)
    assert tree_bytes(made.path) == before
    with monkeypatch.context() as patch, pytest.raises(OutputError, match="Read-only file system"):
        patch.setattr(os, "open", refuse(errno.EROFS))
        write_part(made.writer, ["h"], captures)
    assert tree_bytes(made.path) == before
    with monkeypatch.context() as patch, pytest.raises(OutputError, match=r"catalog/2\.json: No space"):
        write_part(made.writer, ["h"], captures)
        patch.setattr(os, "link", refuse(errno.ENOSPC))
        made.writer.publish()
    assert made.writer.publish().number == 2
    assert verify(made.path, deep=True) == []


def test_an_exception_inside_a_part_leaves_nothing(made: Made) -> None:
    before = tree_bytes(made.path)
    capture = make_capture("h", made.manifest, 5)
    with pytest.raises(KeyboardInterrupt), made.writer.part(["h", "i"]) as part:
        part.append([make_row("h")], [capture])
        assert tree_bytes(made.path) != before
        raise KeyboardInterrupt
    with pytest.raises(InvalidInputError, match="got 1 of its 2 samples"), made.writer.part(["h", "i"]) as part:
        part.append([make_row("h")], [capture])
    assert tree_bytes(made.path) == before


def spoil(capture: Capture, **changes: Any) -> Capture:
    return Capture(**{"hidden": capture.hidden, "answer": capture.answer, "tokens": capture.tokens, **changes})


@pytest.mark.parametrize(
    ("row", "changes", "why"),
    [
        ({"id": "other"}, {}, "got sample 'other', expected 'h'"),
        ({"content": "x"}, {}, r"\['content'\] are the store's own"),
        ({"meta": {"kind": "x"}}, {}, "sample column 'meta' holds Struct"),
        ({}, {"hidden": {2: np.zeros((5, HIDDEN), np.uint16)}}, "lacks layer 3"),
        ({}, {"hidden": {n: np.zeros((5, HIDDEN), np.float32) for n in (2, 3)}}, "hidden/2 .* is float32"),
        (
            {},
            {"hidden": {n: np.zeros((4, HIDDEN), np.uint16) for n in (2, 3)}},
            r"is uint16 \(4, 6\), must be .*\(5, 6\)",
        ),
        ({}, {"tokens": np.zeros((5, 2), np.int64)}, "tokens .* is int64"),
        ({}, {"tokens": np.zeros((0, 2), np.int32)}, "at least one token"),
        ({}, {"answer": np.zeros(HIDDEN, np.float64)}, "answer .* is float64"),
        ({}, {"answer": np.zeros(HIDDEN + 1, np.uint16)}, r"answer .* is uint16 \(1, 7\)"),
    ],
)
def test_rows_and_captures_that_do_not_fit(made: Made, row: dict[str, Any], changes: dict[str, Any], why: str) -> None:
    before = tree_bytes(made.path)
    capture = spoil(make_capture("h", made.manifest, 5), **changes)
    with pytest.raises(InvalidInputError, match=why), made.writer.part(["h"]) as part:
        part.append([{**make_row("h"), **row}], [capture])
    assert tree_bytes(made.path) == before


@pytest.mark.parametrize("ids", [[], ["h", "h"], ["h", ""], ["h", 7]])
def test_ids_that_make_no_part(made: Made, ids: list[Any]) -> None:
    with pytest.raises(InvalidInputError):
        made.writer.part(ids)


def test_a_float32_answer_is_rounded_to_the_stored_type(made: Made) -> None:
    capture = spoil(make_capture("h", made.manifest, 5), answer=np.float32([1, 1 + 2**-9, 1 + 3 * 2**-8, 0, -2, 3]))
    write_part(made.writer, ["h"], {"h": capture})
    made.writer.publish()
    # bfloat16 keeps 8 significant bits: 1 + 2^-9 rounds down, 1 + 3·2^-8 is a tie that goes to 1 + 2^-6.
    expected = np.float32([[1, 1, 1 + 2**-6, 0, -2, 3]])
    with ActivationStore.open(made.path) as store:
        np.testing.assert_array_equal(store.answer([len(store) - 1]), expected)


def test_part_names_and_bytes_depend_on_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make_store(tmp_path / "one.zarr")
    monkeypatch.setattr(os, "getpid", lambda: 4_000_000)
    monkeypatch.setattr("time.time", lambda: 0.0)
    other = make_store(tmp_path / "elsewhere" / "two.zarr", make_manifest(recorded={"device": "cuda"}))
    assert one.parts == other.parts == [part_id(one.manifest.recipe_id, ids) for ids in ("abc", "d", "efg")]
    assert tree_bytes(one.path / "parts") == tree_bytes(other.path / "parts")
    assert tree_bytes(one.path / "catalog") == tree_bytes(other.path / "catalog")


def test_a_part_keeps_the_order_of_its_samples(made: Made) -> None:
    ids = ["i", "h"]
    sealed = write_part(made.writer, ids, {name: make_capture(name, made.manifest, 5) for name in ids})
    assert sealed == part_id(made.manifest.recipe_id, ids)
    made.writer.publish()
    assert ActivationStore.open(made.path).samples["id"].to_list()[-2:] == ids
    assert verify(made.path) == []


def test_the_second_of_two_writers_of_a_part_gives_way(made: Made) -> None:
    ids, captures = ["h"], {"h": make_capture("h", made.manifest, 5)}
    with made.writer.part(ids) as slow:
        slow.append([make_row("h")], [captures["h"]])
        sealed = write_part(made.writer, ids, captures)
        before = tree_bytes(made.path / "parts" / sealed)
    assert tree_bytes(made.path / "parts" / sealed) == before
    assert not list((made.path / "parts").glob(".tmp-*"))
    assert verify(made.path, deep=True) == []


def test_sweep_leaves_live_writers_alone(made: Made) -> None:
    dead = made.path / "parts" / f".tmp-{'0' * 32}-7"
    shutil.copytree(made.folder(0), dead)
    (made.folder(1) / ".lock").touch()
    elsewhere = made.path.parent / "elsewhere"
    elsewhere.mkdir()
    (made.path / "parts" / ".tmp-link").symlink_to(elsewhere)
    with made.writer.part(["h"]) as part:
        live = set((made.path / "parts").glob(f".tmp-{part.id}-*"))
        assert len(live) == 1
        assert create_or_open(made.path, made.manifest).sweep() == 1
        assert not dead.exists() and all(folder.is_dir() for folder in live) and elsewhere.is_dir()
        assert not (made.folder(1) / ".lock").exists()
        part.append([make_row("h")], [make_capture("h", made.manifest, 5)])
    assert part.id in made.writer.sealed()


def test_committed_counts_sealed_parts_only(made: Made) -> None:
    with made.writer.part(["h"]) as part:
        part.append([make_row("h")], [make_capture("h", made.manifest, 5)])
        assert made.writer.committed() == set("abcdefg")
    assert made.writer.committed() == set("abcdefgh")
    shutil.rmtree(made.folder(1))
    assert made.writer.committed() == set("abcefgh")


def catalog(made: Made, number: int) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((made.path / f"catalog/{number}.json").read_text())
    return value


def test_publish_appends_in_plan_order_and_only_when_something_changed(made: Made) -> None:
    assert made.writer.publish().number == 1
    assert catalog(made, 1)["parts"] == made.parts
    new = [write_part(made.writer, [name], {name: make_capture(name, made.manifest, 4)}) for name in "hij"]
    plan = [new[2], new[0]]
    published = made.writer.publish(plan)
    assert (published.number, list(published.parts)) == (2, [*made.parts, *plan, new[1]])
    assert catalog(made, 2)["parts"] == [*made.parts, *plan, new[1]]
    assert sorted(path.name for path in (made.path / "catalog").iterdir()) == ["1.json", "2.json"]


def test_publish_without_an_order_sorts(tmp_path: Path) -> None:
    writer = create_or_open(tmp_path / "x.zarr", make_manifest())
    new = [write_part(writer, [name], {name: make_capture(name, writer.manifest, 4)}) for name in "hijk"]
    assert list(writer.publish().parts) == sorted(new)


def test_publish_retries_when_the_number_is_taken(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    link, mine = os.link, write_part(made.writer, ["h"], {"h": make_capture("h", made.manifest, 4)})

    def beaten(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        assert made.writer.publish().number == 2
        write_part(made.writer, ["i"], {"i": make_capture("i", made.manifest, 4)})
        link(source, target)

    monkeypatch.setattr(os, "link", beaten)
    published = made.writer.publish()
    assert published.number == 3 and len(published.parts) == 5
    assert catalog(made, 2)["parts"] == [*made.parts, mine]


def test_publish_on_a_file_system_without_hard_links(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    write_part(made.writer, ["h"], {"h": make_capture("h", made.manifest, 4)})
    assert made.writer.publish().number == 2
    assert verify(made.path) == []


def test_parallel_writers_lose_nothing(tmp_path: Path) -> None:
    def work(name: str) -> None:
        writer = create_or_open(tmp_path / "x.zarr", make_manifest())
        write_part(writer, [name], {name: make_capture(name, writer.manifest, 4)})
        writer.publish()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, "hijklmno"))
    assert sorted(ActivationStore.open(tmp_path / "x.zarr").samples["id"]) == sorted("hijklmno")
    assert verify(tmp_path / "x.zarr", deep=True) == []


def test_publish_names_parts_that_are_gone(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(made.folder(1))
    with caplog.at_level(logging.WARNING):
        assert list(made.writer.publish().parts) == [made.parts[0], made.parts[2]]
    assert f"part {made.parts[1]} of catalog/1.json is gone" in caplog.text
