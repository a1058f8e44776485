"""What a store is: its identity, its layers and its number type."""

import dataclasses
import difflib
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, PlainValidator, TypeAdapter, ValidationError

from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.locations import names_only
from relope.provenance import canonical, digest
from relope.seals import SEAL
from relope.store.format.dtypes import stored_dtype
from relope.store.format.here import with_paths
from relope.store.format.identity import Identity
from relope.store.format.layout import GROUP, META, check_entries, read_json

FORMAT_VERSION = 3
"""Of new stores: since 2 every file of a store is under a digest, and parts may hold thumbnails.parquet; since 3
a store may hold answers only, without layers.

Stores of formats 1 and 2 are read, and keep theirs.
"""

_ANSWERS_SINCE = 3

_WHICH = "give the folder that `relope extract --out` wrote"
_COMPARED = ("layers", "hidden_size", "dtype", "tokens", "token_layers", "token_columns")
_SHOWN = 5


def _as_identity(value: Any) -> Identity:
    if not isinstance(value, dict):
        raise ValueError("must be a mapping of fields")
    return Identity(value)


@dataclass(frozen=True)
class StoreManifest:
    """The part of a store that never changes once it is created.

    Attributes:
        identity: every field that keys the recipe; a plain mapping of JSON values is taken too.
        layers: decoder blocks whose outputs are kept, ascending; none where answers alone are kept, e.g. those of
            a model that runs elsewhere: hidden_size is then 0, and dtype and token_columns are empty.
        hidden_size: H.
        dtype: ``bfloat16`` or ``float32``.
        token_columns: names of the columns of ``tokens/``; ``kind`` is 1 for image, 0 for text.
        tokens: ``all`` keeps every prompt token of every layer; ``lean`` of ``token_layers`` only,
            and the last prompt token of the others.
        token_layers: layers with every token; filled in by itself unless ``lean``.
        recorded: versions, device, batch size…: shown, never keyed. ``subset_of`` in it says of which
            other store (recipe_id, content_id) this one holds some layers or samples.
        grader: default grader: never keyed, since grades are re-made without the model.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    identity: Annotated[Identity, PlainValidator(_as_identity)]
    layers: tuple[int, ...]
    hidden_size: int
    dtype: str
    token_columns: tuple[str, ...]
    tokens: Literal["all", "lean"] = "all"
    token_layers: tuple[int, ...] = ()
    recorded: dict[str, Any] = field(default_factory=dict)
    grader: str = ""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Check and normalise.

        Raises:
            InvalidInputError: a field has a value that is not allowed.
        """
        if not self.answers_only:
            self._check_states()
        elif self.format_version < _ANSWERS_SINCE or self.tokens != "all" or self.token_layers:
            raise InvalidInputError(f"a store of answers only has format {_ANSWERS_SINCE} or above and no token_layers")
        object.__setattr__(self, "identity", Identity(self.identity))
        object.__setattr__(self, "recorded", json.loads(canonical(self.recorded)))

    def _check_states(self) -> None:
        stored_dtype(self.dtype)
        layers = tuple(sorted(set(self.layers)))
        if not layers or layers[0] < 0:
            raise InvalidInputError(f"layers {self.layers} must be one or more numbers, 0 or above")
        if self.hidden_size < 1:
            raise InvalidInputError(f"hidden_size {self.hidden_size} must be at least 1")
        if not self.token_columns or len(set(self.token_columns)) < len(self.token_columns):
            raise InvalidInputError(f"token_columns {self.token_columns} must be one or more distinct names")
        if self.tokens not in ("all", "lean"):
            raise InvalidInputError(f"tokens {self.tokens!r} is not allowed (all or lean)")
        kept = tuple(sorted(set(self.token_layers))) or (layers if self.tokens == "all" else ())
        last_only = self.tokens == "lean" and "subset_of" in self.recorded
        if not (kept or last_only) or not set(kept) <= set(layers) or (self.tokens == "all" and kept != layers):
            fit = f"layers {layers} with tokens {self.tokens!r}"
            raise InvalidInputError(
                f"token_layers {self.token_layers} do not fit {fit}: lean needs some, all takes all"
            )
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "token_layers", kept)

    @property
    def answers_only(self) -> bool:
        """Whether answers are kept without the states behind them."""
        return not (self.layers or self.hidden_size or self.dtype or self.token_columns)

    @functools.cached_property
    def recipe_id(self) -> str:
        """sha256 (hex) of the identity: equal for everyone who runs the same recipe."""
        return self.identity.recipe_id


@dataclass(frozen=True)
class ArraySpec:
    """One array of a part.

    Attributes:
        name: its folder below the part, e.g. ``hidden/23``.
        columns: H, or the number of token columns.
        logical: logical number type.
        stored: number type on disk.
        attributes: what its ``zarr.json`` says beside the shape.
    """

    name: str
    columns: int
    logical: str
    stored: np.dtype[Any]
    attributes: Mapping[str, Any]

    @property
    def per_token(self) -> bool:
        """Whether it has one row a token rather than one a sample."""
        return self.name == "tokens" or self.name.startswith("hidden/")


def array_specs(manifest: StoreManifest) -> dict[str, ArraySpec]:
    """Return the arrays that every part of a store has, by name; none where it holds answers only."""
    if manifest.answers_only:
        return {}
    names = [f"hidden/{layer}" for layer in manifest.token_layers]
    names += [f"last/{layer}" for layer in manifest.layers] + ["answer"]
    stored, attributes = stored_dtype(manifest.dtype), {"logical_dtype": manifest.dtype}
    specs = [ArraySpec(name, manifest.hidden_size, manifest.dtype, stored, attributes) for name in names]
    columns = list(manifest.token_columns)
    specs.append(ArraySpec("tokens", len(columns), "int32", np.dtype("int32"), {"columns": columns}))
    return {spec.name: spec for spec in specs}


def manifest_document(manifest: StoreManifest) -> dict[str, Any]:
    """Return what the store's own ``zarr.json`` holds: names in the place of paths, since format 2."""
    identity = dict(manifest.identity)
    fields = {**dataclasses.asdict(manifest), "identity": identity, "recipe_id": manifest.recipe_id}
    if manifest.format_version > 1:
        fields["recorded"] = names_only(manifest.recorded)
        fields[SEAL] = digest(json.loads(canonical(fields)))
    return {**GROUP, "attributes": {"relope": fields}}


def read_manifest(path: Path) -> StoreManifest:
    """Return the manifest of the store at a path.

    Raises:
        NotFoundError: nothing is there; stores of similar names nearby are listed.
        StoreError: it is no store, one of another format, or its manifest is damaged.
    """
    if not path.exists():
        raise NotFoundError(
            f"there is no store at {path}{_nearby(path)}", hint=f"make one with `relope extract --out {path}`"
        )
    if not (path / META).is_file():
        raise StoreError(f"{path} is no store (it has no {META})", hint=_WHICH)
    check_entries(path)
    manifest = parse_manifest(path)
    return dataclasses.replace(manifest, recorded=with_paths(path, manifest.recorded))


def parse_manifest(path: Path) -> StoreManifest:
    """Return the manifest in the ``zarr.json`` of a store, whatever else is in its folder.

    Raises:
        StoreError: it is no store, one of another format, or its manifest is damaged.
    """
    document = read_json(path, path / META)
    attributes = document.get("attributes") if isinstance(document, dict) else None
    fields = attributes.get("relope") if isinstance(attributes, dict) else None
    if not isinstance(fields, dict):
        raise StoreError(f"{path} is Zarr but no relope store", hint=_WHICH)
    _check_format(path, fields.get("format_version"))
    seal = fields.pop(SEAL, None)
    agrees = fields["format_version"] == 1 or seal == digest(fields)
    recipe_id = fields.pop("recipe_id", None)
    try:
        manifest = _adapter().validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise StoreError(f"the manifest of {path} is damaged: {where}: {first['msg']}") from error
    if manifest.recipe_id != recipe_id:
        raise StoreError(f"the manifest of {path} is damaged: its identity does not hash to its recipe_id")
    if not agrees:
        raise StoreError(f"the manifest of {path} is damaged: it does not agree with its digest")
    return manifest


def no_layer(layer: int, manifest: StoreManifest, label: str, hint: str) -> NotFoundError:
    """Build the error for a layer that a store lacks."""
    if manifest.answers_only:
        return no_states(label, f"layer {layer}")
    has = ", ".join(map(str, manifest.layers))
    return NotFoundError(f"layer {layer} is not in {label} (has {has})", hint=hint)


def no_states(label: str, what: str = "hidden states") -> NotFoundError:
    """Build the error for states that are asked of a store without any.

    Args:
        label: of the store.
        what: is asked for.
    """
    return NotFoundError(
        f"{label} holds answers only: it has no {what}",
        hint="give a store of a model that ran here: `relope extract` without --endpoint keeps states",
    )


def recipe_changes(old: StoreManifest, new: StoreManifest) -> str:
    """Return in words in which fields two recipes differ; empty when they are one."""
    changes = list(_changes(old.identity, new.identity))
    for name in _COMPARED:
        before, after = getattr(old, name), getattr(new, name)
        if before != after and not any(change.startswith(f"{name} ") for change in changes):
            changes.append(f"{name} was {before}, now {after}")
    rest = ", ".join(change.partition(" was ")[0] for change in changes[_SHOWN:])
    more = f"; and {len(changes) - _SHOWN} more ({rest})" if rest else ""
    return f"{'; '.join(changes[:_SHOWN])}{more}"


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield one phrase per field whose value differs, nested fields joined by dots."""
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _changes(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key} was {_short(before)}, now {_short(after)}"


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:40]}…{text[-16:]}"


def _check_format(path: Path, version: Any) -> None:
    if type(version) is not int:
        raise StoreError(f"the manifest of {path} is damaged: format_version is {version!r}")
    if version > FORMAT_VERSION:
        raise StoreError(
            f"{path} has store format {version}, newer than this relope reads ({FORMAT_VERSION})",
            hint="upgrade relope or extract again into a new --out",
        )
    if version < 1:
        raise StoreError(
            f"{path} has store format {version}; this relope reads 1 to {FORMAT_VERSION}", hint="extract again"
        )


def _nearby(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" (there is no folder {folder} either)"
    names = sorted(meta.parent.name for meta in folder.glob(f"*/{META}"))
    if near := difflib.get_close_matches(path.name, names, n=1, cutoff=0.5):
        return f"; did you mean {folder / near[0]}?"
    return f" (near it: {', '.join(names[:8])})" if names else ""


@functools.cache
def _adapter() -> TypeAdapter[StoreManifest]:
    return TypeAdapter(StoreManifest)
