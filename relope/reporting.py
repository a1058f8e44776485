"""Gathers what a report is made of: two stores, their verdicts, the scores and the pictures."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope import __version__
from relope.errors import InvalidInputError, NotFoundError, unknown
from relope.evaluate.inputs import MethodScores, ReportInputs
from relope.evaluate.scores import Scores, align, read_scores
from relope.grades import labelled, read_grades
from relope.provenance import digest, versions
from relope.routers import scores_path
from relope.spec import EvaluateSpec
from relope.store import ActivationStore, info

if TYPE_CHECKING:
    from PIL.Image import Image

TINY_CAVEAT = (
    "The pictures, the questions and both models are our own miniature: a 1.6 M-parameter model with 16 picture "
    "tokens and 6 blocks. The routing signal is real, but the order of the methods here says nothing about "
    "7–12 B models, and need not be the paper's. Compare with the controls: a probe that does not beat "
    "question-confidence knows no more than the question and the model's own certainty."
)
CAVEAT = (
    "These numbers hold for this model, this data set and these splits. The interval covers the sampling of test "
    "questions, not the randomness of training; fit with several --seed values to see that."
)


def report_inputs(spec: EvaluateSpec) -> ReportInputs:
    """Read everything that an evaluation needs.

    Raises:
        NotFoundError: no scores, or none of a method that was asked for.
        InvalidInputError: scores of another store, or a large store of other samples.
    """
    store = ActivationStore.open(spec.store)
    rows, correct = labelled(store, spec.split, spec.grades)
    labels = store.samples[rows].with_columns(pl.Series("correct", correct))
    scored = [_checked(store, scores) for scores in _read_all(spec)]
    large = ActivationStore.open(spec.large_store) if spec.large_store else None
    recorded = store.manifest.recorded
    dataset = recorded["dataset"] + (" (text only)" if store.manifest.identity.get("text_only") else "")
    large_correct = None if large is None else _large_labels(large, labels)
    return ReportInputs(
        title=f"Routing {recorded['model']} on {dataset}",
        what=_what(recorded["model"], dataset, len(labels), large, list(spec.split)),
        small_name=recorded["model"],
        large_name=large.manifest.recorded["model"] if large else "",
        dataset=dataset,
        labels=labels,
        methods=[_method(labels, scores) for scores in scored],
        large_correct=large_correct,
        provenance=_provenance(spec, store, large, scored, correct, large_correct),
        caveat=TINY_CAVEAT if recorded["model"].startswith("tiny-vl") else CAVEAT,
        pictures=_pictures(store, spec.split),
        resamples=spec.bootstrap,
        seed=spec.seed,
    )


def finished_report(out: Path, inputs: ReportInputs) -> dict[str, Any] | None:
    """Return the report that already stands there for the same inputs, or None."""
    path = out / "report.json"
    if not path.is_file() or not (out / "report.html").is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        same = found["provenance"]["fingerprint"] == inputs.provenance["fingerprint"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if same else None


def store_facts(path: Path | str) -> dict[str, Any]:
    """Return what ``relope store info`` shows: the store's numbers, and its accuracy by split."""
    store = ActivationStore.open(path)
    facts = info(store)
    try:
        graded = read_grades(store, None)
    except NotFoundError:
        return {**facts, "accuracy": None}
    means = graded.group_by("split").agg(pl.col("correct").mean()).sort("split")
    return {**facts, "accuracy": dict(zip(means["split"], means["correct"], strict=True))}


def _read_all(spec: EvaluateSpec) -> list[Scores]:
    folder = scores_path(spec.store, "x").parent
    there = {path.stem: path for path in sorted(folder.glob("*.parquet"))}
    if not there:
        raise NotFoundError(
            f"no scores in {folder}; make some, e.g. relope predict --store {spec.store} --router logprob"
        )
    for name in spec.methods:
        if name not in there:
            raise unknown(
                f"scores in {folder}", name, there, f"`relope predict --store {spec.store} --router …` makes them"
            )
    return [read_scores(there[name]) for name in spec.methods or there]


def _checked(store: ActivationStore, scores: Scores) -> Scores:
    if scores.meta.recipe_id != store.recipe_id:
        raise InvalidInputError(
            f"{scores.path} was made from another recipe ({scores.meta.recipe_id[:12]}) than {store.path} "
            f"({store.recipe_id[:12]}); run `relope predict` on this store again"
        )
    return scores


def _method(labels: pl.DataFrame, scores: Scores) -> MethodScores:
    meta = scores.meta
    return MethodScores(
        meta.method, align(labels, scores), meta.seconds_fit, meta.note, meta.needs_training, meta.is_control
    )


def _large_labels(large: ActivationStore, labels: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Return whether the large model is right on each sample.

    Raises:
        InvalidInputError: its store lacks some of the samples.
    """
    verdicts = labels.select("id").join(
        read_grades(large, None).select("id", "correct"), on="id", how="left", maintain_order="left"
    )
    missing = verdicts.filter(pl.col("correct").is_null())["id"]
    if len(missing):
        raise InvalidInputError(
            f"the large store {large.path} lacks {len(missing)} of {len(labels)} samples (first: {missing[0]}); "
            "extract the same data set, split and limit with the large model"
        )
    return verdicts["correct"].to_numpy()


def _what(small: str, dataset: str, n: int, large: ActivationStore | None, split: list[str]) -> str:
    hybrid = f", with {large.manifest.recorded['model']} as the large model" if large else ""
    return f"{small} answered {n:,} questions of {dataset} ({', '.join(split)} split){hybrid}."


def _provenance(
    spec: EvaluateSpec,
    store: ActivationStore,
    large: ActivationStore | None,
    scored: list[Scores],
    correct: npt.NDArray[np.bool_],
    large_correct: npt.NDArray[np.bool_] | None,
) -> dict[str, Any]:
    parts = {
        "recipe_id": store.recipe_id,
        "large_recipe_id": large.recipe_id if large else None,
        "scores": {scores.meta.method: scores.meta.fingerprint for scores in scored},
        "split": list(spec.split),
        "bootstrap": spec.bootstrap,
        "seed": spec.seed,
    }
    labels = [correct.tolist(), None if large_correct is None else large_correct.tolist()]
    return {**parts, "fingerprint": digest([parts, labels, __version__]), "versions": versions()}


def _pictures(store: ActivationStore, splits: tuple[str, ...]) -> "Callable[[str], Image | None]":
    """Return sample id → its first picture, reading the data set only when one is asked for."""

    @functools.cache
    def samples() -> dict[str, Any]:
        from relope.steps import recorded_dataset

        try:
            dataset = recorded_dataset(store)
            return {sample.id: sample for split in splits for sample in dataset.load(split, None)}
        except (LookupError, ValueError, OSError):
            return {}  # a store outlives its data set; the gallery then has no pictures

    def picture(sample_id: str) -> "Image | None":
        sample = samples().get(sample_id)
        return sample.pictures[0].open() if sample is not None and sample.pictures else None

    return picture
