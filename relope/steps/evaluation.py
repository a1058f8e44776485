"""What is evaluated, resolved once: stores opened, samples labelled, scores read and held against their store."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.asked import asked_column, first_difference
from relope.command_line import command_line
from relope.errors import InvalidInputError, NotFoundError, unknown
from relope.evaluate.numbers.costs import PriceList, read_prices
from relope.evaluate.scores import Scores, read_scores
from relope.probes.router import read_record
from relope.spec import EvaluateSpec
from relope.steps.joins import corrected_by_hand, free_parts, large_correct, not_refused
from relope.steps.outputs import router_folder, scores_path, split_name
from relope.store import ActivationStore, open_store
from relope.store.grades import correct_of, labelled, read_grades, rows_of
from relope.types import ResultWarning


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated.

    Attributes:
        store: of the small model.
        large: of the large model; None when it was not run. Of several the first.
        splits: that are evaluated on.
        grader: ``grader@version`` that judged all answers.
        labels: one row a sample, with whether the small model is right (``correct``) and what was ``asked``.
        large_correct: ``[N]`` whether the large model is; None without it.
        further: stores of further large models, each with ``[N]`` whether its model is right.
        held: the validation samples, which budgets may be set on; empty when they are evaluated on.
        scored: method → its scores, one a seed.
        labels_frozen: whether the grades are those of another store of the same model.
        prices: what the models cost; None when nobody said so.
        budget: share of the questions that may be escalated.
        resamples: of the intervals.
        seed: of the resamples and of ties.
        command: the command line.
        notes: what must be said of the grades, and of samples that are left out.
    """

    store: ActivationStore
    large: ActivationStore | None
    splits: Sequence[str]
    grader: str
    labels: pl.DataFrame
    large_correct: npt.NDArray[np.bool_] | None
    held: pl.DataFrame
    scored: Mapping[str, Sequence[Scores]]
    labels_frozen: bool
    prices: PriceList | None
    budget: float
    resamples: int
    seed: int
    command: str
    further: Sequence[tuple[ActivationStore, npt.NDArray[np.bool_]]] = ()
    notes: Sequence[ResultWarning] = ()

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """``[N]`` whether the small model is right."""
        return self.labels["correct"].to_numpy()

    @property
    def transferred(self) -> list[str]:
        """The methods whose router was fitted on another recipe."""
        own = (None, self.store.recipe_id)
        return sorted(name for name, seeds in self.scored.items() if seeds[0].meta.fitted_on not in own)

    @property
    def out_of_fold(self) -> list[str]:
        """The methods of which each sample was scored by a router that did not see its group."""
        return sorted(name for name, seeds in self.scored.items() if any(seed.meta.folds for seed in seeds))


def evaluation_of(spec: EvaluateSpec) -> Evaluation:
    """Read everything that an evaluation needs.

    Raises:
        NotFoundError: no scores, or none of a method that was asked for.
        InvalidInputError: scores of another store, or a large store of other samples.
    """
    store = open_store(spec.store)
    frozen = _of_same_model(store, open_store(spec.labels_store)) if spec.labels_store else None
    judged = frozen or store
    grader = read_grades(judged, spec.grades).name
    labels = _labels(store, frozen, spec.split, grader)
    larges = [open_store(ref) for ref in spec.large_store]
    _check_apart(larges)
    stay, left_out = not_refused(larges, labels, "how the system does on such is not shown")
    labels = labels.filter(stay)
    identity = store.manifest.identity
    right = [large_correct(large, grader, judged.label, identity, labels) for large in larges]
    return Evaluation(
        store=store,
        large=larges[0] if larges else None,
        splits=spec.split,
        grader=grader,
        labels=labels,
        large_correct=right[0] if right else None,
        further=list(zip(larges, right, strict=True))[1:],
        held=store.samples.filter((pl.col("split") == "validation") & ~pl.col("split").is_in(list(spec.split))),
        scored={
            name: [fresh_scores(spec.store, checked_scores(store, labels, seed)) for seed in seeds]
            for name, seeds in _read_all(spec).items()
        },
        labels_frozen=frozen is not None,
        prices=None if spec.costs is None else read_prices(spec.costs),
        budget=spec.budget,
        resamples=spec.bootstrap,
        seed=spec.seed,
        command=command_line(spec),
        notes=[
            *left_out,
            *(note for graded in (judged, *larges) for note in corrected_by_hand(graded, grader, labels)),
        ],
    )


def _labels(store: ActivationStore, frozen: ActivationStore | None, splits: Sequence[str], grader: str) -> pl.DataFrame:
    """Return the samples of the splits with whether each answer was right, there or on other images."""
    if frozen is None:
        rows, correct = labelled(store, splits, grader)
    else:
        rows = rows_of(store, splits)
        free = free_parts(store.manifest.identity, frozen.manifest.identity)
        correct = correct_of(frozen, store.samples[rows], grader, "labels", free)
    samples = store.samples[rows]
    return samples.with_columns(pl.Series("correct", correct), asked_column(samples))


def _of_same_model(store: ActivationStore, labels: ActivationStore) -> ActivationStore:
    """Return the store that grades are taken from.

    Raises:
        InvalidInputError: its answers are another model's.
    """
    if labels.manifest.identity.model_key != store.manifest.identity.model_key:
        raise InvalidInputError(
            f"the grades of {labels.label} are on answers of {labels.manifest.recorded['model']}, {store.label} is "
            f"of {store.manifest.recorded['model']}",
            hint="--labels-store takes a store of the same model",
        )
    return labels


def _check_apart(larges: Sequence[ActivationStore]) -> None:
    """Refuse one large model twice, and two of one name, which no report could tell apart.

    Raises:
        InvalidInputError: two stores are of one recipe, or their models have one name.
    """
    for number, large in enumerate(larges):
        for other in larges[:number]:
            name = large.manifest.recorded["model"]
            if large.recipe_id == other.recipe_id or name == other.manifest.recorded["model"]:
                raise InvalidInputError(
                    f"{other.label} and {large.label} both hold answers of {name}",
                    hint="give each large model's store once",
                )


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


def checked_scores(store: ActivationStore, labels: pl.DataFrame, scores: Scores) -> Scores:
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
    if scores.asked is not None and (differs := first_difference(labels, scores.asked)):
        raise InvalidInputError(
            f"{scores.path} is about other samples than {store.label} under {differs.n} of {len(labels)} ids: "
            f"{differs}",
            hint="run `relope predict` on this store again",
        )
    return scores


def fresh_scores(ref: str, scores: Scores) -> Scores:
    """Return the scores.

    Raises:
        InvalidInputError: the router that made them was fitted anew since.
    """
    folder = scores.path.parent / scores.run.router if scores.run.router else None
    if folder is None or not (folder / "router.json").is_file():
        folder = router_folder(ref, scores.path.stem)
    record = read_record(folder) if scores.meta.router else None
    if record is not None and record.fingerprint != scores.meta.router:
        raise InvalidInputError(
            f"{scores.path} was made by a router that is no longer the one in {os.path.relpath(folder)}",
            hint=f"score it anew: relope predict --router {os.path.relpath(folder)} --store {ref}",
        )
    return scores


def _without_samples(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity without what is asked of the model beside its answer: sampled traces, p(True)."""
    generation = identity.get("generation") or {}
    return {**identity, "generation": {key: generation.get(key) for key in ("greedy", "max_new_tokens")}}
