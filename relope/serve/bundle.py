"""A bundle: a fitted router with its calibration, its thresholds and what it promises, in one folder to ship.

The folder holds the router's own files, block l of the backbone where the router runs it, a model card, and
``bundle.json``, written last, which names every other file with its sha256. No pickle: JSON and safetensors.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.evaluate.numbers.calibration import Calibration
from relope.evaluate.numbers.guarantee import Promise
from relope.evaluate.numbers.intervals import Interval
from relope.evaluate.numbers.metrics import Floats
from relope.evaluate.numbers.routing import Kind
from relope.evaluate.numbers.thresholds import ThresholdRow
from relope.locations import uri_of_path
from relope.provenance import file_digest, write_json
from relope.serve.engine import EngineSettings, Query, Route
from relope.serve.routing import Messages, Routed, messages_of, session

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
CARD = "README.md"
MOST_BYTES = 16 << 20
"""Largest ``bundle.json`` that is read; ours have 60 kB."""

BACKBONE = {
    "model_files": "checkpoint",
    "adapter_files": "adapter",
    "chat_template": "chat template",
    "image_processor": "image processor",
    "pixels": "image size",
    "compute_dtype": "dtype",
    "quantize": "quantization",
    "processor_files": "tokenizer, chat template or image processor",
}
"""Field of a store's identity that a model must agree with on live traffic → what messages call it."""

PROMPTS = {"prompts": "prompt format", "prompt_template": "prompt template"}
"""Likewise of a store; the prompts of live traffic are the clients'."""

HOW = ("attention", "text_only")
"""Further fields of the identity that say how the model is run."""

PARTS = "processor"
"""Digests of the files that prepare prompts, by what messages call them; older stores do not record them."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a bundle's numbers were measured on, and by whom.

    Attributes:
        dataset: name of the data set.
        splits: of the samples that thresholds were set on; the router did not learn from them.
        n: samples.
        n_groups: groups of samples that share an image.
        n_correct: of which the small model is right.
        auc: of the scores on them, with its interval; None where one class is absent.
        grader: ``name@version`` that judged.
        large: the large model, ``""`` where it was not run.
        recipe_id: of the store.
        date: UTC, ``YYYY-MM-DD``.
        n_judged: samples whose outcome is known; None where that is all of them.
        n_refused: further samples, left out since the large model gave no answer to them.
        data_license: of the data set, as it says itself, or ``""``.
        repository: hub id of the data set, or ``""``.
    """

    dataset: str
    splits: tuple[str, ...]
    n: int
    n_groups: int
    n_correct: int
    auc: float | None
    auc_ci95: Interval | None
    grader: str
    large: str
    recipe_id: str
    date: str
    n_judged: int | None = None
    n_refused: int = 0
    data_license: str = ""
    repository: str = ""


LIVE = "live requests"
"""Data set of a bundle that was calibrated on what its server has logged."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """The content of ``bundle.json``.

    Attributes:
        method: CLI name of the router's method.
        layer: the block l that it reads.
        before_answer: whether it decides before the small model answers.
        model: the small model's name.
        source: where it comes from: a hub id, or the name of a folder.
        revision: of the hub.
        backbone: fields of the store's identity that live traffic must agree with, and how the model was run.
        chat_template: text of the one that took the place of the model's own, or ``""``.
        calibration: score → P(correct).
        promise: what holds at the threshold, and that.
        accuracy_is: ``system`` with the large model's answers, ``kept`` without.
        table: one row a percent escalated.
        made: what all of it was measured on.
        fingerprint: digest of everything that decides it.
        scores: up to 2,000 of the calibration samples', one of each image group, which live ones are compared with;
            none in bundles made before there were any.
        files: name → sha256 of every other file.
        folder: that it was read from.
    """

    format_version: int = FORMAT_VERSION
    method: str
    layer: int
    before_answer: bool
    model: str
    source: str
    revision: str
    backbone: Mapping[str, Any]
    calibration: Calibration
    promise: Promise
    accuracy_is: Kind
    table: tuple[ThresholdRow, ...]
    made: Made
    fingerprint: str
    chat_template: str = ""
    scores: tuple[float, ...] = ()
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    folder: Path | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def threshold(self) -> float:
        """Scores below it are escalated."""
        assert self.promise.threshold is not None  # `_parse` lets no other bundle in, `calibrate` makes none
        return self.promise.threshold

    @property
    def prompt_note(self) -> str:
        """What is to be known of its requests' prompts, ``""`` where that is nothing."""
        if self.backbone.get("prompt_template") is None:
            return ""
        return (
            "the router learned from prompts in words of their own, which requests do not have: what the bundle "
            "promises holds for clients that write their questions in the same words"
        )

    def escalates(self, scores: Floats) -> Any:
        """Return ``[N] bool``: whether each score sends its query to the large model."""
        return scores < self.threshold

    def route(
        self,
        messages: Messages,
        *,
        threshold: float | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        route: Route | None = None,
        score_only: bool = False,
        engine: str = "transformers",
        model: str = "",
        device: str = "auto",
    ) -> Routed:
        """Decide on one query, and answer it with the small model where it is kept.

        The model is opened by the first call and stays open for the next ones, until another bundle's is.

        Args:
            messages: the question, or the turns of a conversation, as `relope.serve.routing.Messages`.
            threshold: score below which it is escalated; None = the bundle's, which keeps its promise.
            max_new_tokens: longest answer.
            temperature: 0 answers greedily, which is what the router was fitted on.
            seed: of sampled answers.
            stop: texts that end an answer.
            route: ``small`` or ``large``, whatever the score.
            score_only: decide, and answer nothing.
            engine: what runs the small model.
            model: its name, folder or hub id; ``""`` = where the bundle says that it comes from.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``.

        Raises:
            InvalidInputError: no conversation, an image that cannot be decoded, or another model.
            NotFoundError: the model or an image is not here.
        """
        if self.folder is None:
            raise InvalidInputError("the bundle was not read from a folder")
        query = Query(
            messages=messages_of(messages),
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            stop=tuple(stop),
            threshold=threshold,
            route=route,
            score_only=score_only,
        )
        return session(self.folder, engine, EngineSettings(model=model, device=device)).route(query)

    def check_backbone(self, identity: Mapping[str, Any], name: str) -> None:
        """Refuse another model than the router was fitted on.

        Args:
            identity: of the backbone, or of a store made with it; its ``processor`` may say what its parts are.
            name: what messages call it.

        Raises:
            InvalidInputError: both sides are named, with what differs.
        """
        fields = {**BACKBONE, **PROMPTS} if "prompts" in identity else BACKBONE
        for field, what in fields.items():
            ours, theirs = self.backbone.get(field), identity.get(field)
            if ours == theirs:
                continue
            if field == "processor_files":
                what, ours, theirs = self._differing_part(identity, what)
            raise InvalidInputError(
                f"the bundle is for {self.model}, {what} {_short(ours)}; {name} has {what} {_short(theirs)}",
                hint="serve it with the model that it was fitted on, or fit and calibrate on this one",
            )

    def _differing_part(self, identity: Mapping[str, Any], what: str) -> tuple[str, Any, Any]:
        """Return which part of a processor differs and both digests; all of it where one side does not say."""
        ours, theirs = self.backbone.get(PARTS) or {}, identity.get(PARTS) or {}
        for part in ours if theirs else ():
            if ours[part] != theirs.get(part):
                return part, ours[part], theirs.get(part)
        return what, self.backbone.get("processor_files"), identity.get("processor_files")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return "(none)" if value is None else text[:12] if len(text) == 64 else text


def is_bundle(folder: Path) -> bool:
    """Return whether a folder holds a finished bundle."""
    return (folder / MANIFEST).is_file()


def write_bundle(folder: Path, bundle: Bundle) -> Bundle:
    """Write ``bundle.json`` over the other files of a folder, which are there; return it with their digests."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {name: file_digest(folder / name) for name in names if name != MANIFEST}
    finished = dataclasses.replace(bundle, files=files)
    write_manifest(folder, finished)
    return finished


def write_manifest(folder: Path, bundle: Bundle) -> None:
    """Write ``bundle.json`` with the digests that the bundle's record has."""
    fields = _adapter().dump_python(bundle, mode="json", exclude={"folder"})
    write_json(folder / MANIFEST, {**fields, "threshold": bundle.threshold})


def read_manifest(folder: Path) -> Bundle:
    """Read a bundle's record alone, without a look at its files.

    Raises:
        StoreError: it is none.
    """
    return _parse(folder / MANIFEST)


def load_bundle(folder: Path | str) -> Bundle:
    """Read a bundle, and check every file of it.

    Raises:
        InvalidInputError: it is named by a URI.
        NotFoundError: there is none.
        StoreError: a file was changed, is missing or does not belong there.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if uri := uri_of_path(folder):
        raise InvalidInputError(f"{uri} is not on this machine", hint=f"relope router pull {uri} takes it here")
    if not path.is_file():
        raise NotFoundError(f"{folder} holds no bundle", hint="relope calibrate --router DIR --store STORE makes one")
    if path.stat().st_size > MOST_BYTES:
        raise StoreError(f"{path} has {path.stat().st_size:,} bytes, more than the {MOST_BYTES:,} of any bundle")
    bundle = _parse(path)
    _check_files(folder, bundle.files)
    return dataclasses.replace(bundle, folder=folder)


def _parse(path: Path) -> Bundle:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        version = value.get("format_version") if isinstance(value, dict) else None
        if version != FORMAT_VERSION:
            raise StoreError(f"{path} has format {version}; this version of relope reads {FORMAT_VERSION}")
        bundle: Bundle = _adapter().validate_python(value)
        stated, promised = value.get("threshold"), bundle.promise.threshold
        if stated is None or stated != promised:
            raise StoreError(f"{path} is no bundle (threshold: {stated}, promised: {promised})", hint="calibrate again")
    except (ValidationError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}" if first else str(error)
        raise StoreError(f"{path} is no bundle ({why})", hint="calibrate again") from error
    return bundle


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    strange = [name for name, path in there.items() if path.is_symlink() or name not in {*files, MANIFEST}]
    if strange:
        raise StoreError(f"{folder} has {strange[0]}, which does not belong to the bundle", hint="remove it")
    for name, digest in files.items():
        if name not in there:
            raise StoreError(f"{folder} lacks {name}", hint="calibrate or pull again")
        if file_digest(there[name]) != digest:
            raise StoreError(f"{folder / name} was changed after the bundle was made", hint="calibrate or pull again")


@functools.cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(Bundle)
