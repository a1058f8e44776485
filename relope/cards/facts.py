"""What every card says, whatever it is the card of: where a thing comes from, and how well it was measured to do."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from relope.errors import InvalidInputError
from relope.locations import named

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,59}", re.ASCII)
"""How the Hub spells a licence: ``apache-2.0``."""

TOLD = ("model", "source", "revision", "data_license")
"""What a store records of its origin that cards tell."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a thing comes from.

    Attributes:
        model: the small model's name.
        source: where it comes from: a hub id, a folder's name, or ``""`` where nobody told.
        revision: of the hub.
        dataset: name of the data set.
        repository: its hub id, or ``""``.
        data_license: of the data set, as its own card says; ``""`` where it does not.
    """

    model: str
    source: str = ""
    revision: str = ""
    dataset: str
    repository: str = ""
    data_license: str = ""

    @classmethod
    def of(cls, told: Mapping[str, Any], dataset: str, identity: Mapping[str, Any]) -> Self:
        """Return the origin that a store records, or a router of the store that it was fitted on.

        Args:
            told: `TOLD`, as far as it is known.
            dataset: its name.
            identity: of the store.
        """
        source, of_data = str(told.get("source") or ""), identity.get("dataset")
        repository = str(of_data.get("repository") or "") if isinstance(of_data, Mapping) else ""
        return cls(
            model=str(told.get("model") or "an unnamed model"),
            source=named(source),
            revision=str(told.get("revision") or ""),
            dataset=dataset,
            repository=hub_id(repository),
            data_license=str(told.get("data_license") or ""),
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How well a router ranks, and on what that was measured.

    Attributes:
        method: of the router.
        auc: of P(correct).
        ci95: its interval; None where there is none.
        n: samples.
        n_groups: groups of samples that share an image.
        dataset: that they are of.
        splits: of it.
        grader: ``name@version`` that judged.
        n_fits: that the AUC is the mean of, each with a seed of its own.
    """

    method: str
    auc: float
    ci95: tuple[float, float] | None
    n: int
    n_groups: int
    dataset: str
    splits: tuple[str, ...]
    grader: str
    n_fits: int = 1


def hub_id(text: str) -> str:
    """Return a text that may be the id of a repository of the Hub, ``""`` for any other."""
    return text if HUB_ID.fullmatch(text) else ""


def check_license(license: str | None) -> None:
    """Refuse a licence that the Hub cannot know.

    Raises:
        InvalidInputError: it is spelled otherwise than any.
    """
    if license is not None and not LICENSE.fullmatch(license):
        raise InvalidInputError(
            f"licence {license!r} must be spelled as the Hub spells it: small letters, digits, dots and dashes",
            hint="e.g. --license apache-2.0, --license cc-by-4.0, --license other",
        )
