from collections.abc import Callable

from made_stores import Made, make_manifest, tree_bytes

from relope.store import ActivationStore, human_bytes, info, info_rows


def test_counts_by_hand(kept: Made) -> None:
    described = info(ActivationStore.open(kept.path))
    assert described["samples"] == {"test": 2, "train": 5} and described["n_samples"] == 7
    # kind is 1 for every third token, from the first: ceil(T / 3) of 3 300 1 257 40 512 7
    assert described["tokens"] == {"total": 1120, "image": 1 + 100 + 1 + 86 + 14 + 171 + 3, "text": 1120 - 376}
    assert described["layers"] == [2, 3] and described["token_layers"] == [2, 3]
    assert (described["hidden_size"], described["dtype"], described["parts"]) == (6, "bfloat16", 3)
    assert described["recipe_id"] == kept.manifest.recipe_id and len(described["content_id"]) == 64
    assert described["recorded"] == {"device": "cpu", "batch_size": 4}


def test_bytes_on_disk(kept: Made) -> None:
    files = {name: len(content) for name, content in tree_bytes(kept.path).items()}
    layer_2 = sum(size for name, size in files.items() if "/hidden/2/" in name or "/last/2/" in name)
    layer_3 = sum(size for name, size in files.items() if "/hidden/3/" in name or "/last/3/" in name)
    total = sum(files.values())
    expected = {"layers": {"2": layer_2, "3": layer_3}, "other": total - layer_2 - layer_3, "total": total}
    assert info(ActivationStore.open(kept.path))["bytes"] == expected


def test_stores_without_a_kind_column(build: Callable[..., Made]) -> None:
    made = build(manifest=make_manifest(token_columns=("position", "row")), parts=["ac"])
    assert info(ActivationStore.open(made.path))["tokens"] == {"total": 4}


def test_the_table_for_people(build: Callable[..., Made]) -> None:
    made = build(parts=[["a", "b"], ["b", "c"]], codec="zstd")
    facts = {**info(ActivationStore.open(made.path)), "accuracy": {"test": 0.5, "train": 1.0}}
    rows = dict(info_rows(facts))
    assert rows["recipe"] == made.manifest.recipe_id and rows["parts"] == "2 (zstd 2)"
    assert rows["samples, test"] == "2, 50.0% answered correctly" and rows["samples, train"].startswith("1, 100.0%")
    assert rows["states"] == "6 wide, bfloat16, format 3" and rows["tokens"] == "total 304, image 102, text 202"
    assert rows["layer 2"].endswith("B, every token") and rows["excluded"].endswith("earlier part has: b")
    assert all(isinstance(value, str) for value in rows.values())


def test_human_bytes() -> None:
    sizes = {0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", (1 << 30) - 1: "1.0 GiB"}
    assert {size: human_bytes(size) for size in sizes} == sizes and human_bytes(3 << 50) == "3.0 PiB"
