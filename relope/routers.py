"""Fitted routers on disk: where they lie, and the record that makes one count."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relope import registry
from relope.errors import NotFoundError, StoreError, unknown
from relope.places import outputs_beside
from relope.probes import Probe, make, method_class
from relope.provenance import versions, write_json


@dataclass(frozen=True)
class Router:
    """The record ``router.json``, written last.

    Attributes:
        method: CLI name of the method.
        layer: the block l that it reads.
        seed: the seed it was fitted with.
        fingerprint: digest of everything that decided its weights.
        recipe_id: recipe of the store it was fitted on; ``""`` where nothing is trained.
        n_samples: labelled samples it learned from.
        seconds_fit: wall-clock seconds of the fit.
        settings: the method's settings that were given.
    """

    method: str
    layer: int = 0
    seed: int = 0
    fingerprint: str = ""
    recipe_id: str = ""
    n_samples: int = 0
    seconds_fit: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)


def router_folder(store: Path | str, method: str) -> Path:
    """Return the default place of a router."""
    return Path(f"{outputs_beside(store)}.routers") / method


def scores_path(store: Path | str, method: str) -> Path:
    """Return the default place of a method's scores."""
    return Path(f"{outputs_beside(store)}.scores") / f"{method}.parquet"


def write_router(folder: Path, router: Router, probe: Probe) -> None:
    """Write a router: weights first, the record that makes them count last."""
    (folder / "router.json").unlink(missing_ok=True)
    probe.save(folder)
    write_json(folder / "router.json", {**dataclasses.asdict(router), "versions": versions()})


def read_router(folder: Path) -> Router | None:
    """Return the record of a router, or None when there is none (or an unfinished one)."""
    path = folder / "router.json"
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Router(**{name: record[name] for name in Router.__dataclass_fields__})
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is no router record ({error}); fit the router again") from error


def open_router(name: str) -> tuple[Router, Probe]:
    """Open a router folder, or make a method that trains nothing.

    Raises:
        NotFoundError: neither a router folder nor such a method.
    """
    folder = Path(name)
    if record := read_router(folder):
        return record, method_class(record.method).load(folder)
    untrained = [method for method in registry.names("methods") if not method_class(method).trains]
    if name in untrained:
        return Router(name), make(name, {})
    if name in registry.names("methods"):
        raise NotFoundError(f"{name} must be fitted first: relope fit {name} --store …, then give its folder")
    raise unknown("router", name, untrained, "give a folder that `relope fit` wrote, or one of these methods")
