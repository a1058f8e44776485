"""Fitted routers on disk: the record that makes one count, and the router as an object that scores stores."""

import contextlib
import dataclasses
import functools
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import TypeAdapter, ValidationError

from relope import registry
from relope.errors import InvalidInputError, NotFoundError, OutputError, RelopeError, StoreError, unknown
from relope.partial import alone, partial_folder
from relope.probes.examples import Examples, Streams
from relope.probes.files import check_records, damaged, records_of
from relope.probes.protocol import Probe, load, make, method_class, pick_layer
from relope.probes.seen import LEARNED, read_marks, seen_among, write_marks
from relope.provenance import cannot_write, sync_folder, versions
from relope.seals import first_line, opened_json, read_plain, write_sealed_json
from relope.store import FREE, ActivationStore, open_store
from relope.store.grades import parsed_answers, rows_of

Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RouterRecord:
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
        grader: ``grader@version`` that judged what it learned from; several are joined by " + ".
        dataset: what it learned from, by name.
        command: the command line that fitted it, without anybody's folders.
        date: when, in UTC.
        files: name → size and sha256 of each file beside the record; ``{}`` where an older relope wrote it.
        origin: of that store: the small model, where it comes from, and what the data set says of its licence.
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
    grader: str = ""
    dataset: str = ""
    command: str = ""
    date: str = ""
    files: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)


RECORD = "router.json"
_AGAIN = "fit the router again"
LATER = ("grader", "dataset", "command", "date", "files", "origin")
"""Fields that older routers lack."""


class Router:
    """A fitted method, or one that trains nothing, ready to score the samples of stores.

    Attributes:
        name: what messages call it: its folder, or the method's name.
        record: how it was fitted; of a method that trains nothing only its name.
        probe: the method.
        marks: of the samples that it learned from; None where it trains nothing, or an older relope fitted it.
        classes_: wrong and right, of which ``predict_proba`` gives the probability of the second.
    """

    classes_: npt.NDArray[np.bool_] = np.array([False, True])

    def __init__(self, name: str, record: RouterRecord, probe: Probe, marks: pl.DataFrame | None = None) -> None:
        """Use `load_router` instead."""
        self.name, self.record, self.probe, self.marks = name, record, probe, marks

    def predict_proba(
        self,
        store: ActivationStore | Path | str,
        split: Sequence[str] = ("test",),
        *,
        grades: str | None = None,
        transfer: bool = False,
        device: str = "cpu",
    ) -> Scores:
        """Return ``[N] float32``: P(the small model is right) on each sample of some splits, in the store's order.

        Args:
            store: opened, or its folder or URI.
            split: names of splits.
            grades: ``grader@version`` that read the answers, for methods on sampled traces; None = those that
                count.
            transfer: allow a router that was fitted on other data or images of the same model.
            device: where heads and a block of the backbone are run.

        Raises:
            NotFoundError: no such split, or the store lacks what the method reads.
            InvalidInputError: it was fitted on another recipe, or runs samples through the backbone, which the
                step ``predict`` opens.
        """
        opened = store if isinstance(store, ActivationStore) else open_store(store)
        self.check_recipe(opened, transfer)
        rows = rows_of(opened, (split,) if isinstance(split, str) else split)
        return self.score(opened, rows, parsed_answers(opened, rows, grades), device=device)

    def score(
        self,
        store: ActivationStore,
        rows: Rows,
        grades: pl.DataFrame | None = None,
        *,
        device: str = "cpu",
        streams: Streams | None = None,
    ) -> Scores:
        """Return ``[N] float32``: P(correct) of rows of a store whose recipe was checked.

        Args:
            store: the opened store.
            rows: ``[N]`` row numbers.
            grades: what a grader read in each answer, one row a sample.
            device: where heads and a block of the backbone are run.
            streams: the running backbone, for methods that stream samples through it.
        """
        layer = self.layer_in(store)
        return self.probe.predict_proba(Examples(store, rows, None, layer, streams, device, grades))

    def layer_in(self, store: ActivationStore) -> int:
        """Return the block l that is read: the one it was fitted at, else the store's deepest.

        Raises:
            NotFoundError: the store lacks a layer that the method needs.
        """
        return pick_layer(store, self.probe, self.record.layer or None)

    def check_recipe(self, store: ActivationStore, transfer: bool = False) -> str:
        """Return a note when the store has another recipe than the router was fitted on, ``""`` otherwise.

        Raises:
            InvalidInputError: the recipes differ, and not only in data and images with ``transfer`` asked for.
            NotFoundError: the store holds answers only, and the method reads states.
        """
        record = self.record
        if store.manifest.answers_only:
            self.layer_in(store)  # says what is missing, where states are read
        if not record.recipe_id or record.recipe_id == store.recipe_id:
            return ""
        differing = store.manifest.identity.differing(record.identity)
        if self._answers_alone(differing):
            return ""
        fixed = [key for key in differing if key not in FREE]
        message = f"{self.name} was fitted on another recipe ({record.recipe_id[:12]}) than {store.label}"
        message += f" ({store.recipe_id[:12]})"
        if not record.identity or fixed:
            message += f"; they differ in {', '.join(fixed)}" if fixed else ""
            raise InvalidInputError(
                f"{message}: its scores would mean nothing", hint="fit it on this store, or extract with its recipe"
            )
        what = ", ".join(differing) or "the stores joined"
        if not transfer:
            raise InvalidInputError(
                f"{message}; they differ in {what}", hint="if that is what you want to study, add --transfer"
            )
        return f"fitted on other data (differs in {what})"

    def learned_in(self, store: ActivationStore) -> list[str]:
        """Return the splits of a store that it learned from, there or in another store of the same data set.

        Questions stay what they are under captions or noise: a router that learned from the noisy test split has
        seen the answers to the clean one.
        """
        differing = store.manifest.identity.differing(self.record.identity)
        same = self.record.recipe_id == store.recipe_id or (self.record.identity and "dataset" not in differing)
        return self.record.splits if same else []

    def seen_in(self, store: ActivationStore, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return ``[N]`` which samples of a store it learned from, there or in any other store.

        A router of an older relope says of no sample whether it did: all of the splits that it learned from count.
        """
        if self.marks is not None:
            return seen_among(self.marks, store, rows)
        seen = np.zeros(len(rows), bool)
        for split in self.learned_in(store):
            with contextlib.suppress(NotFoundError):  # of a split that this store has no sample of
                seen |= np.isin(rows, rows_of(store, (split,)))
        return seen

    def _answers_alone(self, differing: Sequence[str]) -> bool:
        """Return whether two recipes differ in nothing but answers, and the method scores before there is one.

        The states of the prompt are the same then, e.g. in a store of states only.
        """
        return list(differing) == ["generation"] and not self.probe.traits.reads_answer

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the method's settings, those that were not given with their defaults."""
        settings: dict[str, Any] = self.probe.params.model_dump()
        return settings

    def set_params(self, **settings: Any) -> Self:
        """Change settings; what was fitted stays.

        Those that decide how samples are run through the router (``batch``, or ``mode`` of relope) take
        effect; the others say what another fit would learn with.

        Raises:
            InvalidInputError: a setting that the method does not have, or a value that is not allowed.
        """
        self.probe.params = make(self.record.method, {**self.get_params(), **settings}).params
        return self


def load_router(name: Path | str) -> Router:
    """Open a router's folder, or a method that trains nothing by its name.

    Raises:
        NotFoundError: neither a router folder nor such a method.
    """
    text, folder = str(name), Path(name)
    if record := read_record(folder):
        return Router(text, record, _probe(folder, record), read_marks(folder) if LEARNED in record.files else None)
    methods = registry.names("methods")
    if text not in methods and (folder.is_dir() or set(text) & set("/\\.")):
        what = "holds no finished router (it has no router.json)" if folder.is_dir() else "is not there"
        raise NotFoundError(f"router folder {text} {what}", hint="give a folder that `relope fit` wrote")
    if text not in methods:
        raise unknown("router", text, methods, "give a folder that `relope fit` wrote, or a method that trains nothing")
    if method_class(text).traits.trains:
        raise NotFoundError(f"{text} must be fitted first", hint=f"relope fit {text} --store …, then give its folder")
    return Router(text, RouterRecord(text), make(text, {}))


def _probe(folder: Path, record: RouterRecord) -> Probe:
    """Return the method of a router, its files held against their digests where the record has some.

    Raises:
        StoreError: a file is damaged, or does not say what the method needs.
    """
    method_class(record.method)  # an unknown name is told before the files are read
    check_records(folder, record.files)
    try:
        return load(record.method, folder)
    except RelopeError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError, MemoryError) as error:
        raise damaged(folder, f"{type(error).__name__}: {first_line(error)}") from error


def read_record(folder: Path) -> RouterRecord | None:
    """Return the record of a router, or None when there is none (or an unfinished one).

    Raises:
        StoreError: it is damaged, or not what a fit writes.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    value, _ = opened_json(read_plain(path), str(path))
    try:
        fields = {name: value[name] for name in RouterRecord.__dataclass_fields__ if name in value or name not in LATER}
        return _records().validate_json(json.dumps(fields), strict=True)
    except KeyError as error:
        raise StoreError(f"{path} is no router record: it lacks {error}", hint=_AGAIN) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise StoreError(f"{path} is no router record ({first['loc'][0]}: {first['msg']})", hint=_AGAIN) from error


@functools.cache
def _records() -> TypeAdapter[RouterRecord]:
    return TypeAdapter(RouterRecord)


def is_fitted(folder: Path, fingerprint: str) -> bool:
    """Return whether a router with this fingerprint lies in a folder."""
    record = read_record(folder)
    return record is not None and record.fingerprint == fingerprint


def write_router(folder: Path, record: RouterRecord, probe: Probe, marks: pl.DataFrame | None = None) -> Path | None:
    """Write a router beside its folder and put it there whole; return where another one that was there is kept.

    What another run has written meanwhile, fitted on the same, stays.

    Args:
        folder: the router's.
        record: how it was fitted.
        probe: the method.
        marks: of the samples that it learned from, where they are known.
    """
    try:
        with partial_folder(folder) as partial:
            probe.save(partial)
            if marks is not None:
                write_marks(partial, marks)
            fields = {**dataclasses.asdict(record), "files": records_of(partial), "versions": versions()}
            write_sealed_json(partial / RECORD, fields)
            # Two fits into one folder must not move their files there side by side.
            with alone(folder.parent):
                if is_fitted(folder, record.fingerprint):
                    return None
                kept = _keep(folder)
                _put(partial, folder)
    except OutputError:
        raise
    except OSError as error:
        raise cannot_write(folder, error) from error
    return kept


def _keep(folder: Path) -> Path | None:
    """Move a router out of its folder, to one that is named by its fingerprint as well."""
    earlier = read_record(folder)
    if earlier is None:
        return None
    kept = folder.with_name(f"{folder.name}.{earlier.fingerprint[:12]}")
    if (kept / RECORD).is_file():  # the same fit, kept before
        shutil.rmtree(kept)
    folder.rename(kept)
    return kept


def _put(partial: Path, folder: Path) -> None:
    """Move a router's files into its folder, which may hold other things; the record that makes it count last."""
    if not folder.exists():
        partial.rename(folder)
        return
    names = sorted((path.name for path in partial.iterdir()), key=lambda name: name == RECORD)
    for name in names:
        (partial / name).replace(folder / name)
    sync_folder(folder)


def changes(old: RouterRecord, new: RouterRecord) -> str:
    """Return in words in what two fits differ."""
    names = ("method", "layer", "seed", "settings", "splits", "dataset", "grader", "n_samples")
    pairs = [(name, getattr(old, name), getattr(new, name)) for name in names]
    told = [
        f"{name.replace('n_samples', 'samples')} {before} → {after}"
        for name, before, after in pairs
        if before != after and before != ""
    ]
    return ", ".join(told) or "other samples or grades"
