"""The step ``calibrate``: a router's threshold set on held-out samples, with what it promises, as a bundle to ship."""

import dataclasses
import datetime
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.cards.facts import Origin
from relope.errors import InvalidInputError, unknown_split
from relope.evaluate.numbers.calibration import fit_calibration
from relope.evaluate.numbers.costs import read_prices
from relope.evaluate.numbers.estimates import Population, auc_term
from relope.evaluate.numbers.guarantee import (
    Promise,
    independent,
    over_all,
    promise_accuracy,
    promise_budget,
    promise_error,
)
from relope.evaluate.numbers.intervals import Z95
from relope.evaluate.numbers.metrics import Floats, Groups
from relope.evaluate.numbers.ranking import rank
from relope.evaluate.numbers.thresholds import Outcomes, threshold_table
from relope.fields import refuse_given
from relope.grouped import group_names
from relope.locations import named
from relope.probes.protocol import block_use
from relope.probes.router import Router, load_router, write_router
from relope.provenance import digest
from relope.serve.bundle import BACKBONE, HOW, PARTS, PROMPTS, Bundle, Made, is_bundle, load_bundle
from relope.serve.card import promise_text
from relope.spec import CalibrateSpec
from relope.steps.joins import judged_elsewhere, large_correct, learned_otherwise, not_refused
from relope.steps.outcomes import Calibrated
from relope.steps.outputs import bundle_folder
from relope.steps.promises import beyond_groups, check_place, promised, put_bundle, reference_scores
from relope.steps.query_costs import query_costs
from relope.steps.recalibrate import recalibrated
from relope.steps.reopen import device_here, open_block
from relope.steps.step import Step
from relope.store import ActivationStore, block_folder, open_store, shared_otherwise
from relope.store.grades import labelled, names_split, parsed_answers, read_grades, rows_of, split_counts
from relope.types import ResultWarning, Watch

log = logging.getLogger(__name__)

VERSION = 3
"""Of a bundle; 2 keeps some scores, 3 sets its thresholds by the rule of `predict` and `evaluate`."""

GOALS = {
    "budget": "--budget 0.2",
    "max_error": "--max-error 0.1",
    "min_accuracy": "--min-accuracy 0.8",
    "max_usd_per_1k": "--max-usd-per-1k 5 --costs FILE",
}


_OF_STORES = ("large_store", "costs", "split", "grades", "device")
"""Fields that a log has no use for."""

_NOT_DECIDING = {"out", "device", "router", "store", "large_store", "costs", "bundle", "from_log", "feedback"}
"""Fields that do not decide a bundle, or whose contents do."""


@dataclass(frozen=True)
class Held:
    """The samples that thresholds are set on.

    Attributes:
        store: of the small model.
        large: of the large model; None where it was not run.
        grader: ``name@version`` that judged both.
        rows: ``[N]`` of the store.
        samples: one row a sample.
        outcomes: which model is right on each, and what each costs.
        n_refused: further samples of the splits, to which the large model gave no answer.
        notes: what must be said of those.
    """

    store: ActivationStore
    large: ActivationStore | None
    grader: str
    rows: npt.NDArray[np.int64]
    samples: pl.DataFrame
    outcomes: Outcomes
    n_refused: int
    notes: tuple[ResultWarning, ...]

    @property
    def groups(self) -> Groups:
        """``[N]`` groups; a sample without one stands for itself."""
        return np.asarray(group_names(self.samples).to_list(), dtype=np.str_)


def output(spec: CalibrateSpec) -> Path:
    """Return the folder of the bundle."""
    if spec.from_log is not None and spec.bundle is not None:
        return spec.out or spec.bundle.with_name(f"{spec.bundle.name}.recalibrated")
    return spec.out or bundle_folder(spec.store or "", Path(spec.router or "").name)


def check(spec: CalibrateSpec) -> None:
    """Refuse anything but one goal, with what it needs.

    Raises:
        InvalidInputError: no goal, several, or one that lacks what it is computed from.
    """
    asked = [goal for goal in GOALS if getattr(spec, goal) is not None]
    if len(asked) != 1:
        raise InvalidInputError(
            f"a threshold has one goal, {len(asked)} are given ({', '.join(asked) or 'none'})",
            hint=f"give one of {', '.join(GOALS.values())}",
        )
    _check_source(spec)
    if spec.max_usd_per_1k is not None and (spec.costs is None or spec.large_store is None):
        raise InvalidInputError(
            "dollars need prices and the large model's answers", hint="add --costs FILE and --large-store STORE"
        )


def _check_source(spec: CalibrateSpec) -> None:
    """Refuse anything but a router with a store, or a bundle with a log.

    Raises:
        InvalidInputError: one of them is missing, or both are given.
    """
    stored, logged = (spec.router, spec.store), (spec.bundle, spec.from_log)
    if not ((all(stored) and not any(logged)) or (all(logged) and not any(stored))):
        raise InvalidInputError(
            "a threshold is set on a router's scores of a store, or on what a bundle's server has logged",
            hint="give --router DIR --store STORE, or --bundle DIR --from-log LOG",
        )
    if spec.feedback is not None and spec.from_log is None:
        raise InvalidInputError("outcomes belong to a log", hint="add --from-log LOG, or drop --feedback")
    if spec.from_log is None:
        return
    if spec.max_usd_per_1k is not None:
        raise InvalidInputError("a log does not set dollars against shares", hint="set a --budget")
    refuse_given(spec, _OF_STORES, "is for the samples of a store, and a log is read")


def run(spec: CalibrateSpec, watch: Watch) -> Calibrated:
    """Set a threshold, say what it promises, and leave a bundle."""
    check(spec)
    if spec.from_log is not None:
        return recalibrated(spec, output(spec), watch)
    assert spec.router is not None and spec.store is not None  # `check` has let them through
    out, router = output(spec), load_router(spec.router)
    held = _held(spec, router, spec.store)
    fingerprint = _fingerprint(spec, router, held)
    warned = (*learned_otherwise(router.record.method, router.record.grader, held.grader), *held.notes)
    if is_bundle(out) and (bundle := load_bundle(out)).fingerprint == fingerprint:
        text = f"bundle of {router.record.method} up to date → {out}"
        return Calibrated(out, True, text, warnings=(*warned, *beyond_groups(bundle)))
    check_place(out)
    device = device_here(spec.device)
    streams = open_block(held.store, [(router.probe, router.layer_in(held.store))], device)
    with watch(f"calibrate {router.record.method}"):
        grades = parsed_answers(held.store, held.rows, held.grader)
        scores = router.score(held.store, held.rows, grades, device=device, streams=streams).astype(np.float64)
        bundle = _bundle(spec, router, held, scores, fingerprint)
    bundle = _write(out, bundle, router, held.store)
    facts = {"threshold": bundle.threshold, "n": bundle.made.n}
    return Calibrated(out, False, f"{_told(bundle)}\n→ {out}", facts, warnings=(*warned, *beyond_groups(bundle)))


def _held(spec: CalibrateSpec, router: Router, ref: str) -> Held:
    """Read the samples that thresholds are set on.

    Raises:
        InvalidInputError: the router learned from them, or was fitted on another recipe.
    """
    store = open_store(ref)
    router.check_recipe(store)
    _check_there(store, router, spec.split)
    grader = read_grades(store, spec.grades).name
    rows, right = labelled(store, spec.split, grader)
    if n_seen := int(router.seen_in(store, rows).sum()):
        some = "" if n_seen == len(rows) else f"{n_seen:,} of the {len(rows):,} samples of "
        raise InvalidInputError(
            f"{spec.router} learned from {some}split {', '.join(spec.split)}: a threshold set there would promise too "
            "much",
            hint=_elsewhere(router, store),
        )
    large = open_store(spec.large_store) if spec.large_store else None
    so = "what is promised is promised of queries that it answers"
    stay, left_out = not_refused([large] if large else [], store.samples[rows], so)
    rows, right, n_refused = rows[stay], right[stay], int((~stay).sum())
    samples = store.samples[rows]
    large_right = None if large is None else _large_right(store, large, grader, samples)
    kept = escalated = None
    if spec.costs is not None:
        method = router.record.method
        costs = query_costs(store, samples, large, read_prices(spec.costs), {method: (method, router.get_params())})
        kept, escalated = costs.of_query("dollars", method)
    outcomes = Outcomes(right, large_right, kept, escalated)
    return Held(store, large, grader, rows, samples, outcomes, n_refused, left_out)


def _large_right(
    store: ActivationStore, large: ActivationStore, grader: str, samples: pl.DataFrame
) -> npt.NDArray[np.bool_]:
    for warning in judged_elsewhere(large, grader, str(store.manifest.recorded["model"])):
        log.warning("%s", warning.text)
    return large_correct(large, grader, store.label, store.manifest.identity, samples)


def _check_there(store: ActivationStore, router: Router, splits: Sequence[str]) -> None:
    """Refuse a split that the store lacks, and name those that thresholds may be set on.

    Raises:
        NotFoundError: the store has no such split.
    """
    counts = split_counts(store)
    if (absent := next((split for split in splits if not names_split(split, counts)), None)) is None:
        return
    raise unknown_split(store.label, absent, counts, _elsewhere(router, store))


def _elsewhere(router: Router, store: ActivationStore) -> str:
    """Return on which splits of a store a threshold can be set, or what to do where there is none."""
    unseen = [split for split in split_counts(store) if not router.seen_in(store, rows_of(store, (split,))).any()]
    if unseen:
        return f"--split {','.join(unseen)} is there and was not learned from: a threshold set there keeps its promise"
    return "the router learned from every split there: give some rows another one, extract and fit into new places"


def _fingerprint(spec: CalibrateSpec, router: Router, held: Held) -> str:
    """Return a digest of everything that decides the bundle."""
    settings = spec.model_dump(mode="json", exclude=_NOT_DECIDING)
    outcomes = [None if values is None else values.tolist() for values in vars(held.outcomes).values()]
    contents = held.samples.select("id", "content").rows()
    return digest([VERSION, router.record.method, router.record.fingerprint, settings, contents, outcomes])


def _bundle(spec: CalibrateSpec, router: Router, held: Held, scores: Floats, fingerprint: str) -> Bundle:
    record, recorded = router.record, held.store.manifest.recorded
    outcomes, population = held.outcomes, Population.of(held.groups, spec.seed)
    promise = promised(_promise(spec, held, scores))
    if population.n_groups < len(scores):
        on_all = over_all(promise, scores, outcomes.right, outcomes.large_right)
        promise = dataclasses.replace(promise, on_all=on_all)
    return Bundle(
        method=record.method,
        layer=router.layer_in(held.store),
        before_answer=not router.probe.traits.reads_answer,
        model=str(recorded["model"]),
        source=named(str(recorded.get("source", ""))),
        revision=str(recorded.get("revision") or ""),
        backbone=_backbone(held.store),
        chat_template=str(recorded.get("chat_template") or ""),
        calibration=fit_calibration(scores, outcomes.right, spec.calibration),
        promise=promise,
        accuracy_is=outcomes.kind,
        table=tuple(threshold_table(scores, outcomes, population)),
        made=_made(spec, held, scores, population),
        fingerprint=fingerprint,
        scores=reference_scores(scores[independent(held.groups, spec.seed)], spec.seed),
    )


def _backbone(store: ActivationStore) -> dict[str, Any]:
    """Return what live traffic must agree with, and how the model was run."""
    identity, parts = store.manifest.identity, store.manifest.recorded.get(PARTS)
    fields = {field: identity[field] for field in (*BACKBONE, *PROMPTS, *HOW) if field in identity}
    return {**fields, PARTS: parts} if parts else fields


def _made(spec: CalibrateSpec, held: Held, scores: Floats, population: Population) -> Made:
    recorded, right = held.store.manifest.recorded, held.outcomes.right
    origin = Origin.of(recorded, str(recorded["dataset"]), held.store.manifest.identity)
    auc = auc_term(rank(right, scores), population) if 0 < right.sum() < len(right) else None
    return Made(
        dataset=origin.dataset,
        splits=tuple(spec.split),
        n=len(scores),
        n_groups=population.n_groups,
        n_correct=int(right.sum()),
        auc=None if auc is None else auc.value,
        auc_ci95=None if auc is None else auc.bounds(Z95),
        grader=held.grader,
        large=str(held.large.manifest.recorded["model"]) if held.large else "",
        n_refused=held.n_refused,
        recipe_id=held.store.recipe_id,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        data_license=origin.data_license,
        repository=origin.repository,
    )


def _promise(spec: CalibrateSpec, held: Held, scores: Floats) -> Promise:
    """Return what the goal comes to on one sample of each image group."""
    rows = independent(held.groups, spec.seed)
    alone, right, confidence = scores[rows], held.outcomes.right[rows], spec.confidence
    if spec.max_error is not None:
        return promise_error(alone, ~right, spec.max_error, confidence)
    if spec.min_accuracy is not None and held.outcomes.large_right is None:
        return promise_error(alone, ~right, 1 - spec.min_accuracy, confidence)
    if spec.min_accuracy is not None and held.outcomes.large_right is not None:
        return promise_accuracy(alone, right, held.outcomes.large_right[rows], spec.min_accuracy, confidence)
    return promise_budget(alone, _budget(spec, held.outcomes, scores), confidence)


def _budget(spec: CalibrateSpec, outcomes: Outcomes, scores: Floats) -> float:
    """Return the share that may be escalated: as asked, or what the dollars pay for at these samples' prices.

    Raises:
        InvalidInputError: the dollars do not pay for the small model alone.
    """
    if spec.max_usd_per_1k is None:
        assert spec.budget is not None  # `check` has let one goal through
        return spec.budget
    order = np.argsort(scores, kind="stable")
    kept, escalated = outcomes.dollars(np.zeros(len(order), bool)), outcomes.dollars(np.ones(len(order), bool))
    if kept is None or escalated is None:
        raise InvalidInputError(
            f"{spec.costs} lacks dollars of one of the models", hint="fill in both kinds of tokens of both models"
        )
    mean = (kept.sum() + np.concatenate([[0.0], np.cumsum((escalated - kept)[order])])) / len(order)
    affordable = np.flatnonzero(1000 * mean <= spec.max_usd_per_1k)
    if not len(affordable) or affordable[-1] == 0:
        raise InvalidInputError(
            f"{spec.max_usd_per_1k:g} dollars per 1,000 queries does not pay for more than the small model, which "
            f"costs {1000 * mean[0]:.4g}",
            hint="allow more dollars",
        )
    return min(float(affordable[-1] / len(order)), 1 - 1e-9)


def _told(bundle: Bundle) -> str:
    """Return what was decided, in a line or two."""
    row = next((row for row in bundle.table if row.threshold >= bundle.threshold), bundle.table[-1])
    right = "" if row.accuracy is None else f"; {100 * row.accuracy:.1f} % of {_counted(bundle)} are right at it"
    text = f"scores below {bundle.threshold:.6g} are escalated, {100 * row.share:.1f} % of {bundle.made.n:,} samples"
    return f"{text}{right}\npromised: {promise_text(bundle)}"


def _counted(bundle: Bundle) -> str:
    return "the system's answers" if bundle.accuracy_is == "system" else "the kept answers"


def _write(out: Path, bundle: Bundle, router: Router, store: ActivationStore) -> Bundle:
    """Write a bundle beside its place, then put it there in one rename.

    Raises:
        OutputError: the system refuses.
    """
    layer = router.layer_in(store)

    def fill(partial: Path) -> None:
        write_router(partial, router.record, router.probe, router.marks)
        if block_use(router.probe) != "none":
            _copy_block(store.block_folder(layer), block_folder(partial, layer))

    return put_bundle(out, bundle, fill)


def _copy_block(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    for name, content in shared_otherwise(source.parent, source.name).items():
        (target / name).write_bytes(content)


STEP = Step(run, output, version=VERSION, check=check)
