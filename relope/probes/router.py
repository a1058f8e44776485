"""Fitted routers on disk: where they lie, and the record that makes one count."""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relope import registry
from relope.errors import InvalidInputError, NotFoundError, StoreError, unknown
from relope.probes.protocol import Probe, make, method_class
from relope.provenance import versions, write_json
from relope.store import FREE, ActivationStore


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
        bytes_read: of states, read from the store by the fit.
        identity: of the store it was fitted on.
        splits: of that store, that it learned from.
    """

    method: str
    layer: int = 0
    seed: int = 0
    fingerprint: str = ""
    recipe_id: str = ""
    n_samples: int = 0
    seconds_fit: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    bytes_read: int = 0
    identity: dict[str, Any] = field(default_factory=dict)
    splits: list[str] = field(default_factory=list)


def router_name(method: str, seed: int) -> str:
    """Return what a method's router is called; other seeds than 0 stand beside it."""
    return f"{method}@seed{seed}" if seed else method


def split_name(name: str) -> tuple[str, int | None]:
    """Return a router's or scores' name without its seed, and that seed."""
    found = re.fullmatch(r"(.+?)@seed(\d+)", name)
    return (found[1], int(found[2])) if found else (name, None)


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
        raise StoreError(f"{path} is no router record ({error})", hint="fit the router again") from error


def open_router(name: str) -> tuple[Router, Probe]:
    """Open a router folder, or make a method that trains nothing.

    Raises:
        NotFoundError: neither a router folder nor such a method.
    """
    folder = Path(name)
    if record := read_router(folder):
        return record, method_class(record.method).load(folder)
    untrained = [method for method in registry.names("methods") if not method_class(method).traits.trains]
    if name in untrained:
        return Router(name), make(name, {})
    if name in registry.names("methods"):
        raise NotFoundError(f"{name} must be fitted first", hint=f"relope fit {name} --store …, then give its folder")
    raise unknown("router", name, untrained, "give a folder that `relope fit` wrote, or one of these methods")


def check_recipe(name: str, router: Router, store: ActivationStore, transfer: bool) -> str:
    """Return a note when a router is used on another recipe than it was fitted on, ``""`` otherwise.

    Raises:
        InvalidInputError: the recipes differ, and not only in data and pictures with ``transfer`` asked for.
    """
    if not router.recipe_id or router.recipe_id == store.recipe_id:
        return ""
    here = store.manifest.identity
    differing = [key for key in sorted({*router.identity, *here}) if router.identity.get(key) != here.get(key)]
    fixed = [key for key in differing if key not in FREE]
    if not router.identity or fixed:
        raise InvalidInputError(
            f"{name} was fitted on another recipe ({router.recipe_id[:12]}) than {store.label} ({store.recipe_id[:12]}"
            f"{'; they differ in ' + ', '.join(fixed) if fixed else ''}): its scores would mean nothing",
            hint="fit it on this store, or extract with its recipe",
        )
    if not transfer:
        what = ", ".join(differing) or "the stores joined"
        raise InvalidInputError(
            f"{name} was fitted on another recipe ({router.recipe_id[:12]}) than {store.label} "
            f"({store.recipe_id[:12]}); they differ in {what}",
            hint="if that is what you want to study, add --transfer",
        )
    return f"fitted on other data (differs in {', '.join(differing) or 'the stores joined'})"
