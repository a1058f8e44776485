"""What `relope view` shows, resolved once: a store or a report, both models' answers, grades and scores."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.asked import ASKED, asked_column, first_difference
from relope.errors import InvalidInputError, NotFoundError, RelopeError
from relope.evaluate.numbers.persample import REPORT, StoredReport, open_report
from relope.evaluate.numbers.slices import columns_cut
from relope.evaluate.scores import Scores, read_scores
from relope.spec import ViewSpec
from relope.steps.evaluation import checked_scores, fresh_scores
from relope.steps.joins import free_parts
from relope.steps.outputs import scores_path
from relope.store import ActivationStore, open_store, read_manifest
from relope.store.grade_files import Grades, orders
from relope.store.grades import counting, read_grades, rows_of, some_samples
from relope.store.labels import IMPORTED, LABELS, corrected_grader
from relope.view.board import Answers, Board, Queue, queue_of

NOBODY = "nobody"
_LISTS = {"choices": pl.List(pl.String), "answers": pl.List(pl.String)}
_SAID = {"correct": pl.Boolean, "parsed": pl.String, "parse_status": pl.String}


@dataclass(frozen=True)
class Viewed:
    """What is looked at, and the stores that it comes from.

    Attributes:
        board: what the page shows.
        store: the small model's.
        large: the large model's; None where it is not known.
        grades: side → the grader's grades there, which corrections stand in; None where nobody has judged.
    """

    board: Board
    store: ActivationStore
    large: ActivationStore | None
    grades: dict[str, Grades | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Found:
    """What a source is.

    Attributes:
        store: of the small model.
        large: of the large one.
        splits: that are shown.
        graded: ``grader@version`` that was asked for.
        report: None for a store.
    """

    store: ActivationStore
    large: ActivationStore | None
    splits: Sequence[str]
    graded: str | None
    report: StoredReport | None


def viewed(spec: ViewSpec) -> Viewed:
    """Read everything that is shown.

    Raises:
        NotFoundError: no such store or report, or the stores of a report are not beside it.
        InvalidInputError: the large store, scores or a report are about other samples.
    """
    inputs = _found(spec)
    store, large, report = inputs.store, inputs.large, inputs.report
    rows = rows_of(store, inputs.splits) if inputs.splits else some_samples(store)["row"].to_numpy().astype(np.int64)
    samples = store.samples[rows]
    samples = samples.with_columns(asked_column(samples))
    if report is not None:
        samples = _of_report(samples, report)
    grades: dict[str, Grades | None] = {"small": _grades(store, inputs.graded)}
    small = _answers(store, samples, grades["small"])
    notes: list[str] = []
    if report is not None:
        small = _as_reported(small, report.samples["correct"], notes)
    answers = None
    if large is not None:
        _check_same(store, large, samples)
        grades["large"] = _grades(large, _judge_of(large, grades["small"]))
        answers = _answers(large, samples, grades["large"])
        if report is not None and "large_correct" in report.samples.columns:
            answers = _as_reported(answers, report.samples["large_correct"], notes)
    queues = _of_report_scores(report) if report else _queues(spec, store, samples, small, notes)
    recorded = store.manifest.recorded
    board = Board(
        title=f"{recorded.get('model', 'unknown model')} on {recorded.get('dataset', 'unknown data')}",
        source=Path(spec.source).name or spec.source,
        version=store.content_id[:12],
        samples=_shown(samples),
        small=small,
        large=answers,
        queues=tuple(queues),
        subjects=dict(columns_cut(samples)),
        notes=notes,
        pictured=_pictured(store, samples),
    )
    return Viewed(board, store, large, grades)


def _found(spec: ViewSpec) -> _Found:
    folder = Path(spec.source)
    if not (folder / REPORT).is_file():
        large = open_store(spec.large_store) if spec.large_store else None
        return _Found(open_store(spec.source), large, spec.split, spec.grades, None)
    if given := [f"--{name}" for name in ("scores", "split", "grades") if getattr(spec, name)]:
        raise InvalidInputError(
            f"{folder} is a report, which says itself what it is of",
            hint=f"drop {given[0]}, or view the store instead of the report",
        )
    report = open_report(folder)
    told = report.report.provenance
    store = open_store(spec.store) if spec.store else _beside(folder, str(told.get("recipe_id")), "--store")
    large_id = told.get("large_recipe_id")
    large = open_store(spec.large_store) if spec.large_store else None
    if large is None and large_id:
        large = _beside(folder, str(large_id), "--large-store")
    return _Found(store, large, (), report.grader or None, report)


def _beside(folder: Path, recipe_id: str, flag: str) -> ActivationStore:
    """Return the store of a recipe that lies in a report's folder or beside it.

    Raises:
        NotFoundError: there is none.
    """
    for path in sorted([*folder.glob("*.zarr"), *folder.absolute().parent.glob("*.zarr")]):
        try:
            if read_manifest(path).recipe_id == recipe_id:
                return open_store(path)
        except RelopeError:
            continue
    raise NotFoundError(
        f"the store that {folder} was made of (recipe {recipe_id[:12]}) is neither in it nor beside it",
        hint=f"say where it is with {flag} STORE",
    )


def _of_report(samples: pl.DataFrame, report: StoredReport) -> pl.DataFrame:
    """Return the samples of a report, in its order.

    Raises:
        InvalidInputError: the store lacks one, or it was asked something else.
    """
    joined = report.samples.select("id").join(samples, on="id", how="left", maintain_order="left")
    if absent := joined.filter(pl.col("row").is_null())["id"].to_list():
        raise InvalidInputError(f"the store lacks {len(absent)} samples of {report.path} (first: {absent[0]})")
    if ASKED in report.samples.columns and (differs := first_difference(report.samples, joined)):
        raise InvalidInputError(f"{report.path} is about other samples under {differs.n} ids: {differs}")
    return joined.select(samples.columns)


def _grades(store: ActivationStore, asked: str | None) -> Grades | None:
    """Return the grader's grades; of corrected ones those of the grader beneath, None where nobody has judged."""
    name = asked or counting(store)
    if name is None:
        return None
    grades = read_grades(store, name)
    beneath = corrected_grader(grades.table) if name == LABELS else ""
    return read_grades(store, beneath) if beneath else grades


def _judge_of(large: ActivationStore, small: Grades | None) -> str | None:
    """Return by which grader the large model's answers are shown: the small one's, else the tool they come from."""
    known = orders(large.path)
    wished = [name for name in ("" if small is None else small.name, IMPORTED) if name in known]
    return wished[0] if wished else None


def _check_same(store: ActivationStore, large: ActivationStore, samples: pl.DataFrame) -> None:
    """Refuse a large store of other samples.

    Raises:
        InvalidInputError: it is the small model's own, has none of the samples, or was asked something else.
    """
    theirs = large.samples.select("id", asked_column(large.samples))
    if large.recipe_id == store.recipe_id:
        raise InvalidInputError(
            f"{large.label} and {store.label} hold answers of one model, made alike",
            hint="--large-store takes a store of the larger model",
        )
    if not samples["id"].is_in(theirs["id"].to_list()).any():
        raise InvalidInputError(f"the large store {large.label} has none of the {len(samples)} samples")
    if differs := first_difference(samples, theirs, free_parts(store.manifest.identity, large.manifest.identity)):
        raise InvalidInputError(
            f"the large store {large.label} holds other samples under {differs.n} of {len(samples)} ids: {differs}"
        )


def _answers(store: ActivationStore, samples: pl.DataFrame, grades: Grades | None) -> Answers:
    """Return a store's answers to the samples, and what the grader says of them."""
    own = store.samples.select(
        "id", *(_column(store.samples, name, pl.String) for name in ("response", "finish_reason"))
    )
    table = samples.select("id").join(own, on="id", how="left", maintain_order="left")
    if grades is not None:
        said = grades.table.select("id", *(_column(grades.table, name, kind) for name, kind in _SAID.items()))
        table = table.join(said, on="id", how="left", maintain_order="left")
    else:
        table = table.with_columns(pl.lit(None, kind).alias(name) for name, kind in _SAID.items())
    model = str(store.manifest.recorded.get("model", "unknown model"))
    return Answers(model, NOBODY if grades is None else grades.name, table)


def _as_reported(answers: Answers, correct: pl.Series, notes: list[str]) -> Answers:
    """Return answers with the grades that a report's numbers are made of."""
    now = answers.table["correct"]
    if n := int((now != correct).fill_null(value=True).sum()):
        notes.append(f"{n} grades of {answers.model} by {answers.grader} are others by now than in the report.")
    return Answers(answers.model, answers.grader, answers.table.with_columns(correct.alias("correct")))


def _column(table: pl.DataFrame, name: str, kind: Any) -> pl.Expr:
    return pl.col(name) if table.schema.get(name) == kind else pl.lit(None, kind).alias(name)


def _shown(samples: pl.DataFrame) -> pl.DataFrame:
    """Return the columns that the page shows; a store of another kind may lack some."""
    texts = [_column(samples, name, pl.String).fill_null("") for name in ("question", "group")]
    lists = [_column(samples, name, kind) for name, kind in _LISTS.items()]
    images = pl.col("image_digests").list.len() if "image_digests" in samples.columns else pl.lit(0)
    return samples.select("row", "id", "split", *texts, *lists, images.fill_null(0).alias("n_images"))


def _pictured(store: ActivationStore, samples: pl.DataFrame) -> bool:
    """Return whether the store keeps small pictures: of the first sample that has an image."""
    if "image_digests" not in samples.columns:
        return False
    first = samples.filter(pl.col("image_digests").list.len() > 0)["row"].head(1)
    return any(store.thumbnail(row) is not None for row in first)


def _queues(
    spec: ViewSpec, store: ActivationStore, samples: pl.DataFrame, small: Answers, notes: list[str]
) -> list[Queue]:
    """Return the router of every scores file of a store; those that are not about it are named in the notes."""
    folder, made = spec.scores or scores_path(spec.source, "x").parent, []
    if spec.scores is not None and not any(folder.glob("*.parquet")):
        raise NotFoundError(f"no scores in {folder}", hint="`relope predict` makes them")
    known = small.table["correct"].is_not_null()
    splits = samples["split"].unique(maintain_order=True).to_list()
    parts = [np.flatnonzero(((samples["split"] == split) & known).to_numpy()) for split in splits]
    for path in sorted(folder.glob("*.parquet")):
        try:
            scores = fresh_scores(spec.source, checked_scores(store, samples, read_scores(path)))
        except RelopeError as error:
            notes.append(f"{path.stem} is left out: {error}")
            continue
        made.append(queue_of(path.stem, _aligned(samples, scores), parts, seed=0))
    return made


def _aligned(samples: pl.DataFrame, scores: Scores) -> npt.NDArray[np.float64]:
    """Return ``[N]`` scores of the samples; NaN where there is none."""
    theirs = pl.DataFrame({"id": list(scores.ids), "score": scores.scores.astype(np.float64)})
    joined = samples.select("id").join(theirs, on="id", how="left", maintain_order="left")
    return np.asarray(joined["score"].fill_null(float("nan")).to_numpy(), np.float64)


def _of_report_scores(report: StoredReport) -> list[Queue]:
    """Return the routers of a report, the best first; its samples share one budget."""
    everybody = [np.arange(report.report.n)]
    seed, made = int(report.report.provenance.get("seed", report.report.seed)), []
    for method in (row.method for row in report.report.methods):
        several = report.scores[method]
        names = [method if len(several) == 1 else f"{method}, fit {number + 1}" for number in range(len(several))]
        made += [queue_of(name, row, everybody, seed) for name, row in zip(names, several, strict=True)]
    return made
