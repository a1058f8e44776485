"""A scores file: one method's P(correct) for every sample it was asked about.

What relope reads again is Parquet; CSV and JSON Lines are for other tools.
"""

import dataclasses
import functools
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import TypeAdapter, ValidationError

from relope.asked import ASKED
from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.evaluate.numbers.metrics import Floats
from relope.provenance import canonical, file_digest, write_bytes
from relope.seals import opened_frame, opened_json, read_plain, write_sealed_frame, write_sealed_json

METADATA_KEY = "relope"
COLUMNS = {"id": pl.String, "score": pl.Float32}
ESCALATE = "escalate"
"""Column of whether a sample goes to the large model, where that was decided."""

SEEN = "seen"
"""Column of whether the router learned from a sample, here or in another store."""

ENDINGS = (".parquet", ".csv", ".jsonl")
PREDICT = "make it with `relope predict`"


@dataclass(frozen=True)
class ScoresMeta:
    """Where scores come from.

    Attributes:
        method: CLI name.
        seconds_fit: time of the training, None when there was none.
        seconds_predict: time to score all samples; now kept beside the file, in its `RunNote`.
        recipe_id: of the store whose hidden states were read.
        content_id: of the same store.
        router: fingerprint of the fitted router, None for methods without training.
        seed: of the training.
        needs_training: False for heuristics.
        is_control: True for methods that look at no hidden state.
        fingerprint: digest of router and samples: the same means that nothing has to be done.
        note: what a reader of the report should know.
        bytes_read_fit: of states, read by the training.
        bytes_read: of states, read to score all samples.
        fitted_on: recipe of the store that the router learned from.
        identity: of the store that was scored; ``{}`` when it is not known.
        folds: routers, each of which scored what the others learned from; None for one router.
        learned: splits of the scored store that the router learned from.
        grader: ``grader@version`` that judged what the router learned from; ``""`` where it is not known.
        grades_read: grader that read the answers which were scored; ``""`` where the method reads none.
        n_train: samples that the router learned from; out of fold the fewest that one of the routers did (older files
            have about the mean).
        layer: the block l that is read; None where the method reads no states.
        settings: of the method, defaults included.
        model: whose answers are scored, by name.
        dataset: that was scored, by name.
        splits: of it that were scored.
        fit_splits: that the router learned from, of whichever store.
        fit_command: the command line that fitted the router.
        fit_date: when, in UTC.
    """

    method: str
    seconds_fit: float | None
    seconds_predict: float | None
    recipe_id: str
    content_id: str
    router: str | None
    seed: int
    needs_training: bool
    is_control: bool = False
    fingerprint: str = ""
    note: str = ""
    bytes_read_fit: int | None = None
    bytes_read: int | None = None
    fitted_on: str | None = None
    identity: dict[str, Any] = dataclasses.field(default_factory=dict)
    folds: int | None = None
    learned: list[str] = dataclasses.field(default_factory=list)
    grader: str = ""
    grades_read: str = ""
    n_train: int | None = None
    layer: int | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    model: str = ""
    dataset: str = ""
    splits: list[str] = dataclasses.field(default_factory=list)
    fit_splits: list[str] = dataclasses.field(default_factory=list)
    fit_command: str = ""
    fit_date: str = ""


@dataclass(frozen=True)
class RunNote:
    """What is told of the run that made a scores file, beside it: equal scores are equal bytes whenever they are made.

    Attributes:
        command: the command line, without anybody's folders.
        date: when, in UTC.
        seconds_predict: time to score all samples.
        router: the router's folder, from the folder of the scores; ``""`` for a method that trains nothing.
        fingerprint: of scores that are no Parquet, which keep none themselves.
        content: sha256 (hex) of such a file: one that was changed since is made anew.
        decided: what became of the samples, in words, where that was decided.
        threshold: scores below it are escalated.
        escalated: so many samples are.
    """

    command: str = ""
    date: str = ""
    seconds_predict: float | None = None
    router: str = ""
    fingerprint: str = ""
    content: str = ""
    decided: str = ""
    threshold: float | None = None
    escalated: int | None = None


@dataclass(frozen=True)
class Scores:
    """Scores of one method.

    Attributes:
        path: where they were read.
        ids: N sample ids, each once.
        scores: ``[N] float32`` in [0, 1].
        meta: where they come from.
        asked: ``id`` and ``asked`` digest of each sample; None where an older relope wrote them.
        run: how the file was made, as far as that is known.
        seen: ``[N]`` whether the router learned from each sample; None where it learns nothing, or an older relope
            wrote them, which knew it of whole splits alone (``meta.learned``).
    """

    path: Path
    ids: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    meta: ScoresMeta
    asked: pl.DataFrame | None = None
    run: RunNote = RunNote()
    seen: npt.NDArray[np.bool_] | None = None

    @property
    def seconds_predict(self) -> float | None:
        """Time to score all samples; None where it is not known."""
        return self.run.seconds_predict if self.run.seconds_predict is not None else self.meta.seconds_predict


def write_scores(
    path: Path,
    ids: list[str],
    scores: npt.NDArray[Any],
    meta: ScoresMeta,
    asked: pl.Series | None = None,
    run: RunNote | None = None,
    escalate: npt.NDArray[np.bool_] | None = None,
    seen: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Write a scores file atomically; equal scores of equal samples give equal bytes.

    Args:
        path: the file.
        ids: ``[N]`` of the samples.
        scores: ``[N]``.
        meta: where they come from.
        asked: ``[N]`` digests of what was asked, which every reader holds against the store's.
        run: how they are made; goes into a file beside them.
        escalate: ``[N]`` whether each sample goes to the large model, where that was decided.
        seen: ``[N]`` whether the router learned from each, which only what relope reads again keeps.

    Raises:
        InvalidInputError: the file's ending is none of ``ENDINGS``, a score is not a probability, an id comes
            twice, or lengths disagree.
        OutputError: the file cannot be written.
    """
    check_ending(path)
    values = np.asarray(scores, dtype=np.float32)
    _check(path, ids, values)
    frame = pl.DataFrame({"id": ids, "score": values}, schema=COLUMNS)
    if escalate is not None:
        frame = frame.with_columns(pl.Series(ESCALATE, escalate))
    run = run or RunNote()
    if path.suffix != ".parquet":
        content = (frame.write_csv() if path.suffix == ".csv" else frame.write_ndjson()).encode()
        digest = hashlib.sha256(content).hexdigest()
        marked = replace(run, fingerprint=meta.fingerprint, content=digest)
        write_sealed_json(_note_path(path), dataclasses.asdict(marked))
        write_bytes(path, content)
        return
    if run != RunNote():
        write_sealed_json(_note_path(path), dataclasses.asdict(run))
    frame = frame if asked is None else frame.with_columns(asked.alias(ASKED))
    frame = frame if seen is None else frame.with_columns(pl.Series(SEEN, seen, pl.Boolean))
    write_sealed_frame(path, frame, {METADATA_KEY: canonical(dataclasses.asdict(meta)).decode()})


def check_ending(path: Path) -> None:
    """Refuse a file whose name does not say how scores are written into it.

    Raises:
        InvalidInputError: another ending than ``ENDINGS``.
    """
    if path.suffix not in ENDINGS:
        raise InvalidInputError(
            f"{path} must end in one of {', '.join(ENDINGS)}", hint=f"e.g. --out {path.with_suffix('.csv')}"
        )


def fingerprint_of(path: Path) -> str | None:
    """Return the fingerprint of the scores in a file; None where there is no such file.

    Raises:
        InvalidInputError: it holds what is no scores file.
    """
    if not path.exists():
        return None
    if path.suffix == ".parquet":
        return read_scores(path).meta.fingerprint
    note = read_note(path)
    return note.fingerprint if path.is_file() and note.content == file_digest(path) else None


def read_scores(path: Path) -> Scores:
    """Read and check a scores file.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is not Parquet, lacks columns or metadata, or holds what is no score.
    """
    if not path.is_file():
        what = "is a folder and no file of scores" if path.is_dir() else "does not exist"
        raise NotFoundError(f"{path} {what}", hint=PREDICT)
    content = read_plain(path)
    frame, meta = _read_frame(path, content), _read_meta(path, content)
    ids = frame["id"].to_list()
    values = frame["score"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    _check(path, ids, values)
    asked = frame.select("id", ASKED) if ASKED in frame.columns else None
    seen = frame[SEEN].to_numpy() if SEEN in frame.columns else None
    return Scores(path, tuple(ids), values, meta, asked, read_note(path), seen)


def _note_path(path: Path) -> Path:
    """Return the file beside scores; CSV and JSON Lines of one name have one each, each made by its own run."""
    return path.with_suffix(".run.json") if path.suffix == ".parquet" else path.with_name(f"{path.name}.run.json")


def read_note(path: Path) -> RunNote:
    """Return what is told of the run; nothing where the note is gone, since no number hangs on it."""
    note = _note_path(path)
    try:
        return _notes().validate_python(opened_json(read_plain(note), "it")[0]) if os.path.lexists(note) else RunNote()
    except (ValidationError, InvalidInputError, StoreError) as error:
        raise InvalidInputError(
            f"{note} is damaged: {str(error).splitlines()[0]}", hint=f"delete it, or {PREDICT}"
        ) from error


@functools.cache
def _notes() -> TypeAdapter[RunNote]:
    return TypeAdapter(RunNote)


def align(labels: pl.DataFrame, scores: Scores) -> Floats:
    """Return ``[N] float64`` scores in the order of the labels' ``id`` column.

    Raises:
        InvalidInputError: labelled samples have no score.
    """
    index = {identifier: number for number, identifier in enumerate(scores.ids)}
    wanted = labels["id"].to_list()
    missing = [identifier for identifier in wanted if identifier not in index]
    if missing:
        splits = labels["split"].unique().sort().to_list() if "split" in labels.columns else []
        raise InvalidInputError(
            f"{scores.path} has {len(scores.ids):,} scores but lacks {len(missing):,} of the {len(wanted):,} "
            f"labelled samples (first: {', '.join(missing[:3])})",
            hint=_score_them(scores.meta, splits),
        )
    return scores.scores[[index[identifier] for identifier in wanted]].astype(np.float64)


def _score_them(meta: ScoresMeta, splits: Sequence[str]) -> str:
    """Return how samples get the scores that they lack; never by a router that learned from them."""
    of = f" --split {','.join(splits)}" if splits else ""
    if meta.folds or {*meta.learned} & {*splits}:
        again = f"relope fit {meta.method} --folds {meta.folds or 5}{of}"
        return f"`{again}` scores them out of fold, or choose with --methods what has scores of all"
    return (
        f"score them with `relope predict --router …{of}`, the router of {meta.method}, on the store the "
        "labels come from"
    )


def _read_frame(path: Path, content: bytes) -> pl.DataFrame:
    try:
        frame = opened_frame(content, "it")
    except StoreError as error:
        raise InvalidInputError(f"{path} is not a readable Parquet file: {error}", hint=PREDICT) from error
    if lacking := [name for name in COLUMNS if name not in frame.columns]:
        raise InvalidInputError(
            f"{path} lacks the columns {', '.join(lacking)} (it has {', '.join(frame.columns) or 'none'}); "
            "a scores file has id and score"
        )
    if ASKED in frame.columns and (frame[ASKED].dtype != pl.String or frame[ASKED].null_count()):
        raise InvalidInputError(f"{path} has {ASKED} as {frame[ASKED].dtype}, or nulls in it; it must be text")
    if SEEN in frame.columns and (frame[SEEN].dtype != pl.Boolean or frame[SEEN].null_count()):
        raise InvalidInputError(f"{path} has {SEEN} as {frame[SEEN].dtype}, or nulls in it; it must be true or false")
    if frame["id"].dtype != pl.String or not frame["score"].dtype.is_numeric():
        raise InvalidInputError(
            f"{path} has id as {frame['id'].dtype} and score as {frame['score'].dtype}; they must be String and Float32"
        )
    return frame


def _read_meta(path: Path, content: bytes) -> ScoresMeta:
    text = pl.read_parquet_metadata(io.BytesIO(content)).get(METADATA_KEY)
    if text is None:
        raise InvalidInputError(
            f"{path} has no {METADATA_KEY!r} metadata, so nobody can say what made it", hint=PREDICT
        )
    try:
        ScoresMeta(**json.loads(text))  # names what is missing or unknown
        return _metas().validate_json(text, strict=True)
    except (TypeError, ValueError, RecursionError) as error:
        needed = ", ".join(field.name for field in dataclasses.fields(ScoresMeta))
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        what = error if first is None else f"{first['loc'][0]}: {first['msg']}"
        raise InvalidInputError(f"{path} has metadata that cannot be read ({what}); it needs {needed}") from error


@functools.cache
def _metas() -> TypeAdapter[ScoresMeta]:
    return TypeAdapter(ScoresMeta)


def _check(path: Path, ids: list[str], scores: npt.NDArray[np.float32]) -> None:
    if scores.shape != (len(ids),):
        raise InvalidInputError(
            f"{path}: {len(ids):,} ids but scores of shape {list(scores.shape)}; pass one score an id"
        )
    if wrong := [name for name, times in Counter(ids).items() if times > 1 or name is None]:
        raise InvalidInputError(
            f"{path}: {len(wrong):,} ids among {len(ids):,} rows are repeated or null (first: {wrong[0]}); "
            "each sample has one score"
        )
    bad = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if len(bad):
        raise InvalidInputError(
            f"{path}: {len(bad):,} of {len(ids):,} scores are not in [0, 1] "
            f"(first: {ids[bad[0]]} has {scores[bad[0]]}); a score is P(correct)"
        )
