from collections.abc import Callable

from made_stores import Made, make_manifest, tree_bytes

from relope.store import ActivationStore, info


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
