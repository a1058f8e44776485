"""What keys a recipe: the fields that decide the numbers in a store."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from relope.errors import StoreError
from relope.provenance import canonical, digest
from relope.types import OWN


class Identity(Mapping[str, Any]):
    """Every field that decides the numbers in a store: JSON values that nobody changes.

    A mapping, since a field that this version does not know counts like the others; those that are
    read have a property each.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        """Take over fields as the JSON values that they are stored as: tuples become lists."""
        self._fields: dict[str, Any] = json.loads(canonical(dict(fields)))

    def __getitem__(self, name: str) -> Any:
        """Return the JSON value of a field."""
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the fields."""
        return iter(self._fields)

    def __len__(self) -> int:
        """Return the number of fields."""
        return len(self._fields)

    def __repr__(self) -> str:
        """Show the fields."""
        return f"Identity({self._fields!r})"

    @property
    def recipe_id(self) -> str:
        """sha256 (hex) of the fields: equal for everyone who runs the same recipe."""
        return digest(self._fields)

    def with_fields(self, **changes: Any) -> "Identity":
        """Return the identity with some fields replaced or added."""
        return Identity({**self._fields, **changes})

    def differing(self, other: Mapping[str, Any]) -> list[str]:
        """Return the sorted names of the fields in which two identities differ."""
        return [name for name in sorted({*self, *other}) if self.get(name) != other.get(name)]

    @property
    def model_files(self) -> str:
        """Digest of the checkpoint's files."""
        return str(self._required("model_files"))

    @property
    def model_key(self) -> str:
        """What tells models apart: the digest of the checkpoint's files, else the name where it runs elsewhere."""
        return str(self.get("model_files") or self._required("model"))

    @property
    def compute_dtype(self) -> str:
        """Number type that the model computed in."""
        return str(self._required("compute_dtype"))

    @property
    def attention(self) -> str:
        """Implementation of attention that the model ran with."""
        return str(self._required("attention"))

    @property
    def quantize(self) -> str:
        """How the model's weights were quantized, or ``""``."""
        return str(self.get("quantize") or "")

    @property
    def dataset(self) -> dict[str, Any]:
        """What decides the content of the data set."""
        return dict(self.get("dataset") or {})

    @property
    def of_own_file(self) -> bool:
        """Whether the data set is a user's own file or folder."""
        return self.dataset.get("source") == OWN

    @property
    def text_only(self) -> bool:
        """Whether captions stood in for the images."""
        return bool(self.get("text_only"))

    @property
    def perturbation(self) -> dict[str, Any]:
        """What was done to the images: ``kind`` and ``strength``; empty where they were left alone."""
        return dict(self.get("perturbation") or {})

    @property
    def generation(self) -> dict[str, Any]:
        """How answers were made: ``max_new_tokens``, and what was asked besides the greedy answer."""
        return dict(self.get("generation") or {})

    @property
    def has_answers(self) -> bool:
        """Whether the model was asked for answers, and not for states alone."""
        return self.generation.get("max_new_tokens") != 0

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that the recipe asks for."""
        return tuple(self._required("layers"))

    def _required(self, name: str) -> Any:
        if name not in self._fields:
            raise StoreError(f"the store's identity has no {name}: it was not written by an extraction")
        return self._fields[name]
