"""Gathers what a report is made of: two stores, their grades, the scores and the pictures."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope import registry
from relope.errors import InvalidInputError, NotFoundError, unknown
from relope.evaluate.numbers.costs import Costs, cost_of, read_prices
from relope.evaluate.numbers.inputs import MethodScores, ReportInputs
from relope.evaluate.numbers.persample import perturbation_name
from relope.evaluate.scores import Scores, align, read_scores
from relope.probes.protocol import method_class
from relope.provenance import digest, versions
from relope.spec import EvaluateSpec
from relope.steps.outputs import scores_path, split_name
from relope.steps.reopen import recorded_dataset
from relope.store import ActivationStore, open_store
from relope.store.grades import correct_of, labelled

if TYPE_CHECKING:
    from PIL.Image import Image

VERSION = 1
"""Of a report: raised when the same scores and grades give other numbers or another page."""

TINY_CAVEAT = (
    "The images, the questions and both models are our own miniature: a 1.6 M-parameter model with 16 image "
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
    store = open_store(spec.store)
    rows, correct = labelled(store, spec.split, spec.grades if spec.labels_store is None else None)
    labels = store.samples[rows].with_columns(pl.Series("correct", correct))
    if spec.labels_store is not None:
        frozen = _of_same_model(store, open_store(spec.labels_store))
        correct = correct_of(frozen, labels["id"].to_list(), spec.grades, "labels")
        labels = labels.with_columns(pl.Series("correct", correct))
    scored = {name: [_checked(store, seed) for seed in seeds] for name, seeds in _read_all(spec).items()}
    held = store.samples.filter((pl.col("split") == "validation") & ~pl.col("split").is_in(list(spec.split)))
    large = _of_another_model(store, open_store(spec.large_store)) if spec.large_store else None
    recorded = store.manifest.recorded
    dataset = _dataset_name(store, spec)
    large_correct = None if large is None else correct_of(large, labels["id"].to_list())
    return ReportInputs(
        title=f"Routing {recorded['model']} on {dataset}",
        what=_what(recorded["model"], dataset, len(labels), large, spec.split, _out_of_fold(scored)),
        small_name=recorded["model"],
        large_name=large.manifest.recorded["model"] if large else "",
        dataset=dataset,
        labels=labels,
        methods=[_method(name, labels, held, seeds, spec.split) for name, seeds in scored.items()],
        large_correct=large_correct,
        provenance=_provenance(spec, store, large, scored, correct, large_correct),
        caveat=TINY_CAVEAT if recorded["model"].startswith("tiny-vl") else CAVEAT,
        costs=None if spec.costs is None else _costs(spec.costs, store, large, labels, scored),
        images=_pictures(store, spec.split),
        resamples=spec.bootstrap,
        seed=spec.seed,
    )


def _of_same_model(store: ActivationStore, labels: ActivationStore) -> ActivationStore:
    """Return the store that grades are taken from.

    Raises:
        InvalidInputError: its answers are another model's.
    """
    if labels.manifest.identity["model_files"] != store.manifest.identity["model_files"]:
        raise InvalidInputError(
            f"the grades of {labels.label} are on answers of {labels.manifest.recorded['model']}, {store.label} is "
            f"of {store.manifest.recorded['model']}",
            hint="--labels-store takes a store of the same model",
        )
    return labels


def _of_another_model(store: ActivationStore, large: ActivationStore) -> ActivationStore:
    """Return the large model's store.

    Raises:
        InvalidInputError: it holds the very answers of the small one.
    """
    if large.recipe_id == store.recipe_id:
        raise InvalidInputError(
            f"{large.label} and {store.label} hold answers of {store.manifest.recorded['model']}, made alike",
            hint="--large-store takes a store of the larger model",
        )
    return large


def _dataset_name(store: ActivationStore, spec: EvaluateSpec) -> str:
    """Return the data set with what was done to it."""
    identity, name = store.manifest.identity, str(store.manifest.recorded["dataset"])
    done = ["text only"] if identity.get("text_only") else []
    if identity.get("perturbation"):
        done.append(f"images with {perturbation_name(identity['perturbation'])}")
    if spec.labels_store is not None:
        done.append("labels frozen")
    return f"{name} ({', '.join(done)})" if done else name


def _transferred(store: ActivationStore, scored: dict[str, list[Scores]]) -> list[str]:
    """Return the methods whose router was fitted on another recipe."""
    own = (None, store.recipe_id)
    return sorted(name for name, seeds in scored.items() if seeds[0].meta.fitted_on not in own)


def _out_of_fold(scored: dict[str, list[Scores]]) -> list[str]:
    """Return the methods of which each sample was scored by a router that did not see its group."""
    return sorted(name for name, seeds in scored.items() if any(seed.meta.folds for seed in seeds))


def _read_all(spec: EvaluateSpec) -> dict[str, list[Scores]]:
    """Return method → its scores, one a seed."""
    folder = spec.scores or scores_path(spec.store, "x").parent
    files: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.glob("*.parquet")):
        name, seed = split_name(path.stem)
        seeds = files.setdefault(name, {})
        if other := seeds.get(seed or 0):
            raise InvalidInputError(f"{other} and {path} are both of {name} with seed 0", hint="delete the stale one")
        seeds[seed or 0] = path
    if not files:
        raise NotFoundError(
            f"no scores in {folder}", hint=f"make some, e.g. relope predict --store {spec.store} --router logprob"
        )
    for name in spec.methods:
        if name not in files:
            raise unknown(
                f"scores in {folder}", name, files, f"`relope predict --store {spec.store} --router …` makes them"
            )
    return {name: [read_scores(path) for _, path in sorted(files[name].items())] for name in spec.methods or files}


def _checked(store: ActivationStore, scores: Scores) -> Scores:
    """Return the scores.

    Raises:
        InvalidInputError: they are about another model, other data or other images than the store.
    """
    own, theirs = _without_samples(store.manifest.identity), _without_samples(scores.meta.identity)
    differing = [key for key in sorted({*own, *theirs}) if own.get(key) != theirs.get(key)]
    if scores.meta.recipe_id != store.recipe_id and differing:
        raise InvalidInputError(
            f"{scores.path} was made from another recipe ({scores.meta.recipe_id[:12]}) than {store.label} "
            f"({store.recipe_id[:12]}); they differ in {', '.join(differing)}",
            hint="run `relope predict` on this store again",
        )
    return scores


def _without_samples(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity without what is asked of the model beside its answer: sampled traces, p(True)."""
    generation = identity.get("generation") or {}
    return {**identity, "generation": {key: generation.get(key) for key in ("greedy", "max_new_tokens")}}


def _method(
    name: str, labels: pl.DataFrame, held: pl.DataFrame, seeds: list[Scores], splits: Sequence[str]
) -> MethodScores:
    first = seeds[0]
    meta, n = first.meta, len(first.ids)
    seen = ", ".join(split for split in meta.learned if split in splits)
    notes = [
        meta.note,
        "" if meta.method == name else f"method {meta.method}",
        f"learned from {seen}: its figures are of samples that it has seen" if seen else "",
    ]
    scored = len(held) > 0 and set(held["id"].to_list()) <= set(first.ids)
    return MethodScores(
        name,
        np.stack([align(labels, scores) for scores in seeds]),
        seconds_fit=meta.seconds_fit,
        note="; ".join(note for note in notes if note),
        needs_training=meta.needs_training,
        is_control=meta.is_control,
        seeds=tuple(scores.meta.seed for scores in seeds),
        held=align(held, first) if scored else None,
        seconds_predict_each=meta.seconds_predict / n,
        bytes_read_fit=meta.bytes_read_fit,
        bytes_read_each=None if meta.bytes_read is None else meta.bytes_read / n,
    )


def _costs(
    path: Path,
    store: ActivationStore,
    large: ActivationStore | None,
    labels: pl.DataFrame,
    scored: dict[str, list[Scores]],
) -> Costs:
    """Return what each sample costs on each model; without a store of the large model its costs are unknown."""
    models = read_prices(path).models
    own, (prompt, answer) = models.get(store.manifest.recorded["model"]), _tokens(labels)
    small, prefill = cost_of(own, prompt, answer), cost_of(own, prompt, np.zeros_like(answer))
    theirs, samples = None, labels
    if large is not None:
        theirs = models.get(large.manifest.recorded["model"])
        samples = labels.select("id").join(large.samples, on="id", how="left", maintain_order="left")
    known = set(registry.names("methods"))
    traits = {
        name: method_class(first.meta.method).traits
        for name, (first, *_) in scored.items()
        if first.meta.method in known
    }
    return Costs(
        small,
        prefill,
        cost_of(theirs, *_tokens(samples)),
        before_answer=frozenset(name for name, of_method in traits.items() if not of_method.reads_answer),
        needs={name: of_method.flags for name, of_method in traits.items() if of_method.needs},
    )


def _tokens(samples: pl.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return prompt and answer tokens of each sample."""
    return samples["n_tokens"].to_numpy(), samples["token_ids"].list.len().cast(pl.Int64).to_numpy()


def _what(
    small: str, dataset: str, n: int, large: ActivationStore | None, split: Sequence[str], folded: list[str]
) -> str:
    hybrid = f", with {large.manifest.recorded['model']} as the large model" if large else ""
    said = f"{small} answered {n:,} questions of {dataset} ({', '.join(split)} split){hybrid}."
    return f"{said} Scored out of fold: {', '.join(folded)}." if folded else said


def _provenance(
    spec: EvaluateSpec,
    store: ActivationStore,
    large: ActivationStore | None,
    scored: dict[str, list[Scores]],
    correct: npt.NDArray[np.bool_],
    large_correct: npt.NDArray[np.bool_] | None,
) -> dict[str, Any]:
    parts = {
        "recipe_id": store.recipe_id,
        "large_recipe_id": large.recipe_id if large else None,
        "model": store.manifest.recorded["model"],
        "dataset": store.manifest.recorded["dataset"],
        "text_only": bool(store.manifest.identity.get("text_only")),
        "perturbation": store.manifest.identity.get("perturbation"),
        "labels_frozen": spec.labels_store is not None,
        "scores": {name: [seed.meta.fingerprint for seed in seeds] for name, seeds in scored.items()},
        "transferred": _transferred(store, scored),
        "out_of_fold": _out_of_fold(scored),
        "costs": read_prices(spec.costs).model_dump() if spec.costs else None,
        "split": list(spec.split),
        "bootstrap": spec.bootstrap,
        "seed": spec.seed,
    }
    labels = [correct.tolist(), None if large_correct is None else large_correct.tolist()]
    return {**parts, "fingerprint": digest([parts, labels, VERSION]), "versions": versions()}


def _pictures(store: ActivationStore, splits: tuple[str, ...]) -> "Callable[[str], Image | None]":
    """Return sample id → its first picture, reading the data set only when one is asked for."""

    @functools.cache
    def samples() -> dict[str, Any]:
        try:
            dataset = recorded_dataset(store)
            return {sample.id: sample for split in splits for sample in dataset.load(split, None)}
        except (LookupError, ValueError, OSError):
            return {}  # a store outlives its data set; the gallery then has no pictures

    def picture(sample_id: str) -> "Image | None":
        sample = samples().get(sample_id)
        return sample.images[0].open() if sample is not None and sample.images else None

    return picture
