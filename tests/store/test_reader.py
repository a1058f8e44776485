import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import zarr
from made_stores import Made, as_float, make_capture, make_manifest, make_row, write_part
from zarr.codecs import BloscCodec, ZstdCodec

from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.store import ActivationStore, open_store, to_float32
from relope.store.format.shard import CHUNK_ROWS


def test_samples_are_the_rows_in_catalog_order(kept: Made) -> None:
    store = ActivationStore.open(kept.path)
    samples = store.samples
    assert samples["row"].to_list() == list(range(7)) and samples["row"].dtype == pl.Int64
    assert "".join(samples["id"]) == "abcdefg" and len(store) == 7
    assert samples["n_tokens"].to_list() == [3, 300, 1, 257, 40, 512, 7]
    assert samples["part"].to_list() == [kept.parts[n] for n in (0, 0, 0, 1, 2, 2, 2)]
    assert samples["logprobs"].to_list() == [[-0.5]] * 7 and samples["note"].null_count() == 7
    assert store.excluded == []
    assert (store.layers, store.recipe_id) == ((2, 3), kept.manifest.recipe_id)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("rows", [None, [6, 0, 3, 3, 1], [2], np.array([5, 4], np.uint8), []])
def test_one_row_a_sample(kept: Made, kept_float32: Made, dtype: str, rows: Any) -> None:
    made = kept if dtype == "bfloat16" else kept_float32
    store = ActivationStore.open(made.path)
    wanted = [made.captures["abcdefg"[row]] for row in (range(7) if rows is None else rows)]
    last, answer = store.last(3, rows), store.answer(rows)
    assert last.dtype == answer.dtype == np.float32 and last.shape == answer.shape == (len(wanted), 6)
    for row, capture in enumerate(wanted):
        np.testing.assert_array_equal(last[row], as_float(capture.hidden[3][-1]))
        np.testing.assert_array_equal(answer[row], as_float(capture.answer))


def test_rows_that_are_kept_are_read_once(kept: Made) -> None:
    plain = ActivationStore.open(kept.path)
    with open_store(kept.path, keep_rows=True) as store:
        for rows in ([5, 2], None, [0], []):
            np.testing.assert_array_equal(store.last(3, rows), plain.last(3, rows))
            np.testing.assert_array_equal(store.answer(rows), plain.answer(rows))
        assert store.bytes_read == 2 * 7 * 6 * 2  # last of a layer and answer: 7 rows of 6 numbers of 2 bytes, once
        store.last(3)[:] = 0  # what a caller does with its rows does not reach the kept ones
        np.testing.assert_array_equal(store.last(3), plain.last(3))
        with pytest.raises(NotFoundError, match="layer 52"):
            store.last(52)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_ragged_batches_equal_what_went_in(
    kept: Made, kept_float32: Made, dtype: str, size: int, seed: int | None
) -> None:
    made = kept if dtype == "bfloat16" else kept_float32
    rows = [6, 1, 0, 5, 3]
    rng = None if seed is None else np.random.default_rng(seed)
    seen = []
    for batch in ActivationStore.open(made.path).batches(2, rows, size=size, rng=rng):
        assert batch.values.dtype == made.captures["a"].hidden[2].dtype and batch.dtype == dtype
        assert len(batch.rows) <= size and batch.offsets.dtype == np.int64 and batch.offsets[0] == 0
        assert len(batch.values) == batch.offsets[-1]
        for place, row in enumerate(batch.rows.tolist()):
            values = batch.values[batch.offsets[place] : batch.offsets[place + 1]]
            expected = made.captures["abcdefg"[row]].hidden[2]
            np.testing.assert_array_equal(values, expected)
            np.testing.assert_array_equal(to_float32(values, batch.dtype), as_float(expected))
            seen.append(row)
    expected_order = rows if seed is None else np.random.default_rng(seed).permutation(rows).tolist()
    assert seen == expected_order


def test_batches_by_tokens(kept: Made) -> None:
    store = ActivationStore.open(kept.path)
    # lengths 3 300 1 257 40 512 7: 512 is over the limit and stands alone
    batches = [batch.rows.tolist() for batch in store.batches(2, size=3, max_tokens=304)]
    assert batches == [[0, 1, 2], [3, 4], [5], [6]]
    assert [batch.rows.tolist() for batch in store.batches(2, size=2, max_tokens=303)] == [
        [0, 1],
        [2, 3],
        [4],
        [5],
        [6],
    ]
    assert [batch.rows.tolist() for batch in store.batches(2, [5, 0], size=2, max_tokens=9)] == [[5], [0]]
    assert list(store.batches(2, [], size=2)) == []


def test_batches_share_one_buffer(kept: Made) -> None:
    batches = list(ActivationStore.open(kept.path).batches(2, size=1))
    assert all(np.shares_memory(batches[0].values, batch.values) for batch in batches)
    two = zip(*(ActivationStore.open(kept.path).batches(2, size=1) for _ in range(2)), strict=True)
    assert not any(np.shares_memory(one.values, other.values) for one, other in two)


def test_tokens(kept: Made) -> None:
    store = ActivationStore.open(kept.path)
    rows = [3, 0, 5]
    expected = [kept.captures["abcdefg"[row]].tokens for row in rows]
    for got, wanted in zip(store.tokens(rows), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    values, offsets = store.token_batch(rows)
    np.testing.assert_array_equal(values, np.concatenate(expected))
    assert offsets.tolist() == [0, 257, 260, 772] and values.dtype == np.int32
    assert store.tokens([]) == []


def test_lean_keeps_last_tokens_of_the_other_layer(build: Callable[..., Made]) -> None:
    manifest = make_manifest(tokens="lean", token_layers=(2,))
    made = build(manifest=manifest)
    capture = make_capture("h", manifest, 9)
    one_row = type(capture)({2: capture.hidden[2], 3: capture.hidden[3][-1:]}, capture.answer, capture.tokens)
    write_part(made.writer, ["h"], {"h": one_row})
    made.writer.publish()
    store = ActivationStore.open(made.path)
    assert not (made.folder() / "hidden/3").exists()
    expected = [as_float(capture.hidden[3][-1]) for capture in [*made.captures.values(), capture]]
    np.testing.assert_array_equal(store.last(3), np.stack(expected))
    (batch,) = store.batches(2, [7], size=1)
    np.testing.assert_array_equal(batch.values, capture.hidden[2])
    with pytest.raises(NotFoundError, match=r"layer 3 has only last tokens in .*\(every token: 2\)$") as caught:
        store.batches(3, size=1)
    assert caught.value.hint == "extract again with --tokens all into a new --out"


def test_of_a_sample_in_two_parts_the_first_counts(build: Callable[..., Made]) -> None:
    made = build(parts=[["a", "b"], ["c"]])
    other = {name: make_capture(name, made.manifest, 11) for name in ("b", "c", "e")}
    write_part(made.writer, ["b", "e", "c"], other)
    made.writer.publish()
    store = ActivationStore.open(made.path)
    assert store.samples["id"].to_list() == ["a", "b", "c", "e"] and store.excluded == ["b", "c"]
    captures = [*made.captures.values(), other["e"]]
    np.testing.assert_array_equal(store.last(2), np.stack([as_float(c.hidden[2][-1]) for c in captures]))
    (batch,) = store.batches(2, size=4)
    np.testing.assert_array_equal(batch.values, np.concatenate([c.hidden[2] for c in captures]))
    np.testing.assert_array_equal(store.token_batch([3])[0], other["e"].tokens)


def test_columns_may_differ_between_parts(made: Made) -> None:
    with made.writer.part(["h"]) as part:
        row = {**make_row("h"), "note": "late", "score": 0.5}
        part.append([row], [make_capture("h", made.manifest, 2)])
    made.writer.publish()
    samples = ActivationStore.open(made.path).samples
    assert samples["note"].to_list() == [None] * 7 + ["late"]
    assert samples["score"].to_list() == [None] * 7 + [0.5]


def test_an_empty_store(tmp_path: Path, build: Callable[..., Made]) -> None:
    store = ActivationStore.open(build(parts=[]).path)
    assert len(store) == 0 and store.samples.is_empty() and store.parts == ()
    assert store.last(2).shape == (0, 6) and list(store.batches(2, size=1)) == []


def test_layers_and_rows_that_are_not_there(kept: Made) -> None:
    store = ActivationStore.open(kept.path)
    for read in (lambda: store.last(52), lambda: store.batches(52, size=1)):
        with pytest.raises(NotFoundError) as caught:
            read()
        assert str(caught.value) == f"layer 52 is not in {kept.path} (has 2, 3)"
        assert caught.value.hint == "extract again with --layers 52 into a new --out"
    for rows in ([7], [-1], [0.5], [[1]], [True]):
        with pytest.raises(InvalidInputError, match="rows"):
            store.last(2, rows)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="size 0"):
        store.batches(2, size=0)


def test_uris_are_for_open_store(kept: Made) -> None:
    with pytest.raises(InvalidInputError, match=r"s3://bucket/x\.zarr is a URI: open_store opens it"):
        ActivationStore.open("s3://bucket/x.zarr")
    with open_store(kept.path.as_uri()) as store:
        assert store.label == str(kept.path) and not store.is_remote


def test_maps_are_released(kept: Made) -> None:
    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(str(kept.path))

    with ActivationStore.open(kept.path) as store:
        assert mapped() == 0, "opening touches no data"
        values = store.last(2)
        assert mapped() > 0
    assert mapped() == 0
    assert np.isfinite(values).all()


def test_unpublished_parts_wait_for_the_next_catalog(made: Made) -> None:
    write_part(made.writer, ["h"], {"h": make_capture("h", made.manifest, 5)})
    assert len(ActivationStore.open(made.path)) == 7
    made.writer.publish()
    assert len(ActivationStore.open(made.path)) == 8


@pytest.mark.parametrize("kind", ["blosc", "unsharded", "two shards", "zstd"])
def test_arrays_of_other_tools_are_read_by_zarr(build: Callable[..., Made], kind: str) -> None:
    made = build(parts=["abc"])
    for layer in (2, 3):
        path = made.folder() / f"hidden/{layer}"
        values = zarr.open_array(str(path), mode="r")[:]
        options: dict[str, Any] = {
            "blosc": {
                "shards": (512, 6),
                "compressors": BloscCodec(cname="zstd", shuffle="shuffle", typesize=2),
            },
            "unsharded": {"compressors": None},
            "two shards": {"shards": (256, 6), "compressors": None},
            "zstd": {"shards": (512, 6), "compressors": ZstdCodec(level=1)},
        }[kind]
        options |= {"shape": values.shape, "dtype": values.dtype, "chunks": (128, 6), "overwrite": True}
        array = zarr.create_array(str(path), **options)
        array[:] = values
    store = ActivationStore.open(made.path)
    (batch,) = store.batches(2, [1, 2, 0], size=3)
    np.testing.assert_array_equal(batch.values, np.concatenate([made.captures[name].hidden[2] for name in "bca"]))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0, CHUNK_ROWS * 12 - 1, CHUNK_ROWS * 12, -1, -5, -20])
def test_a_flipped_byte_is_found_on_first_touch(build: Callable[..., Made], place: int) -> None:
    made = build(parts=["b"])
    flip(made.folder() / "hidden/2/c/0/0", place)
    store = ActivationStore.open(made.path)
    with pytest.raises(StoreError, match=rf"parts/{made.parts[0]}/hidden/2/c/0/0 in .* is damaged: .*CRC") as caught:
        list(store.batches(2, size=1))
    assert "extract again" in caught.value.hint
    assert np.isfinite(store.last(2)).all(), "other arrays are still readable"


def test_checking_can_be_left_out(build: Callable[..., Made]) -> None:
    made = build(parts=["b"])
    flip(made.folder() / "hidden/2/c/0/0", 0)
    (batch,) = ActivationStore.open(made.path, verify=False).batches(2, size=1)
    assert (batch.values != made.captures["b"].hidden[2]).sum() == 1


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_truncated_shard(build: Callable[..., Made], keep: int) -> None:
    made = build(parts=["b"])
    shard = made.folder() / "hidden/2/c/0/0"
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(StoreError, match=r"is damaged: [\d,]+ bytes, must be 6,188 for its shape"):
        list(ActivationStore.open(made.path).batches(2, size=1))


def test_torch_is_never_imported(kept: Made) -> None:
    script = (
        "import sys; from relope.store import ActivationStore, info, verify\n"
        f"store = ActivationStore.open({str(kept.path)!r}); info(store)\n"
        "store.last(2); list(store.batches(2, size=2))\n"
        f"assert verify({str(kept.path)!r}) == []\n"
        "assert not {'torch', 'transformers', 'zarr', 'matplotlib', 'pandas'} & set(sys.modules), 'heavy import'\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, cwd=root)
