"""What a store holds, in numbers."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from relope.store.format.arrays import part_codec
from relope.store.format.layout import disk_bytes, part_folder
from relope.store.format.manifest import array_specs
from relope.store.reader import ActivationStore

IMAGE, TEXT = 1, 0
"""Values of the token column ``kind``."""


def info(store: ActivationStore) -> dict[str, Any]:
    """Return JSON values that describe a store.

    ``excluded`` names the samples that an earlier part has already, ``codecs`` counts parts by codec,
    ``samples`` counts by split, ``tokens`` by kind (image, text; absent when the store has no
    column ``kind``) and ``bytes`` on disk by layer, ``other`` being all that is no layer's.
    """
    manifest = store.manifest
    return {
        "path": str(store.path),
        "format_version": manifest.format_version,
        "recipe_id": store.recipe_id,
        "content_id": store.content_id,
        "identity": dict(manifest.identity),
        "recorded": manifest.recorded,
        "grader": manifest.grader,
        "layers": list(manifest.layers),
        "token_layers": list(manifest.token_layers),
        "hidden_size": manifest.hidden_size,
        "dtype": manifest.dtype,
        "token_selection": manifest.tokens,
        "parts": len(store.parts),
        "codecs": _codec_counts(store),
        "n_samples": len(store),
        "samples": _split_counts(store),
        "excluded": store.excluded,
        "tokens": _token_counts(store),
        "bytes": _byte_counts(store),
    }


def _codec_counts(store: ActivationStore) -> dict[str, int]:
    specs = array_specs(store.manifest)
    return dict(sorted(Counter(part_codec(store.path, part, specs) for part in store.parts).items()))


def _split_counts(store: ActivationStore) -> dict[str, int]:
    if "split" not in store.samples.columns:
        return {}
    counts = store.samples["split"].cast(str).fill_null("").value_counts().sort("split")
    return dict(zip(counts["split"].to_list(), counts["count"].to_list(), strict=True))


def _token_counts(store: ActivationStore) -> dict[str, int]:
    if store.manifest.answers_only:
        told = [name for name in ("prompt_tokens", "completion_tokens") if name in store.samples.columns]
        known = [name for name in told if store.samples[name].null_count() < len(store)]  # unknown is no 0
        return {name.removesuffix("_tokens"): int(store.samples[name].sum() or 0) for name in known}
    counts = {"total": int(store.index.n_tokens.sum())}
    if "kind" not in store.manifest.token_columns:
        return counts
    column = store.manifest.token_columns.index("kind")
    counts |= {"image": 0, "text": 0}
    for number in range(len(store.parts)):
        values, _ = store.token_batch((store.index.part == number).nonzero()[0])
        counts["image"] += int((values[:, column] == IMAGE).sum())
        counts["text"] += int((values[:, column] == TEXT).sum())
    return counts


def _byte_counts(store: ActivationStore) -> dict[str, Any]:
    layers = dict.fromkeys(store.layers, 0)
    for part in store.parts:
        for name in array_specs(store.manifest):
            kind, _, layer = name.partition("/")
            if kind in ("hidden", "last"):
                layers[int(layer)] += disk_bytes(part_folder(store.path, part) / name)
    total = disk_bytes(store.path)
    return {
        "layers": {str(layer): size for layer, size in layers.items()},
        "other": total - sum(layers.values()),
        "total": total,
    }


def info_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what `info` found, and ``accuracy`` by split where it is known, as lines for a person."""
    identity, recorded = facts["identity"], facts["recorded"]
    accuracy = facts.get("accuracy") or {}
    rows = [
        ("recipe", facts["recipe_id"]),
        ("content", facts["content_id"]),
        ("model", str(recorded.get("model", ""))),
        ("data set", str(recorded.get("dataset", "")) + (" (text only)" if identity.get("text_only") else "")),
        ("states", f"{_states(facts)}, format {facts['format_version']}"),
        ("parts", f"{facts['parts']:,} ({_packed(facts['codecs'])})"),
    ]
    if "subset_of" in recorded:
        rows.append(("subset of", json.dumps(recorded["subset_of"])))
    rows += _provenance_rows(facts)
    rows += [(f"samples, {split}", _samples(n, accuracy.get(split))) for split, n in facts["samples"].items()]
    rows.append(("samples", f"{facts['n_samples']:,}"))
    rows.append(("tokens", _counted(facts["tokens"]) or "not told"))
    for layer, size in facts["bytes"]["layers"].items():
        kept = "every token" if int(layer) in facts["token_layers"] else "last tokens only"
        rows.append((f"layer {layer}", f"{human_bytes(size)}, {kept}"))
    rows.append(("bytes", f"{human_bytes(facts['bytes']['total'])} in all"))
    if excluded := facts["excluded"]:
        rows.append(("excluded", f"{len(excluded):,} copies of samples that an earlier part has: {_some(excluded)}"))
    return rows


def _states(facts: Mapping[str, Any]) -> str:
    return f"{facts['hidden_size']:,} wide, {facts['dtype']}" if facts["layers"] else "none: answers only"


def _provenance_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return which grades count, and which command lines made the store."""
    names = [entry["name"] for entry in facts.get("grades", ()) if entry["counts"]]
    others = [entry["name"] for entry in facts.get("grades", ()) if not entry["counts"]]
    also = f" (also there: {', '.join(others)}; `--grades` takes them)" if others else ""
    rows = [("graded by", f"{names[0]}{also}")] if names else []
    return rows + [(f"made {entry['date']}", entry["command"]) for entry in facts.get("made", ())]


def human_bytes(size: int) -> str:
    """Return a size in the largest unit that leaves at least 1: ``1.4 GiB``."""
    if size < 1024:
        return f"{size} B"
    value, units = float(size), iter(("KiB", "MiB", "GiB", "TiB", "PiB"))
    unit = ""
    while value >= 1023.95 or not unit:
        value, unit = value / 1024, next(units)
    return f"{value:.1f} {unit}"


def _samples(n: int, accuracy: float | None) -> str:
    return f"{n:,}" + ("" if accuracy is None else f", {accuracy:.1%} answered correctly")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _packed(codecs: Mapping[str, int]) -> str:
    """Say how many parts are packed by which codec; of parts that are all as they are, that."""
    if set(codecs) == {"none"}:
        return "not packed"
    return _counted({"not packed" if codec == "none" else codec: n for codec, n in codecs.items()})


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
