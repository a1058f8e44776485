"""The step ``recommend``: which router to deploy, what more labels would bring, and where it fails."""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from relope.command_line import to_type
from relope.errors import InvalidInputError
from relope.evaluate.numbers.bootstrap import bootstrap_auc
from relope.evaluate.numbers.candidates import (
    RESAMPLES,
    candidates,
    chosen,
    kept_of,
    weak_slices,
)
from relope.evaluate.numbers.estimates import Difference
from relope.evaluate.numbers.metrics import Floats, Groups
from relope.evaluate.numbers.scarcity import LEARNED, scarcity
from relope.probes.examples import Examples
from relope.probes.folds import Folds, group_folds, out_of_fold
from relope.probes.protocol import Stacks, check_layer, make, method_class, pick_layer
from relope.probes.stack import STRENGTHS, Choice
from relope.spec import RecommendSpec, build
from relope.steps.advice import Advice, Point, page, table
from relope.steps.outputs import router_folder
from relope.steps.samples import Selection, training_rows
from relope.steps.step import Step
from relope.types import Outcome, Progress, Watch
from relope.words import counted

BEFORE = ("kernel-probe", "statistics-probe", "fusion-prefill")
AFTER = ("entropy", "question-confidence", "kernel-posthoc", "fusion")
CHEAPEST_FIRST = ("kernel-probe", "statistics-probe", "fusion-prefill", "entropy", "kernel-posthoc", "fusion")
"""What is recommended, if it ranks as well as the best: before the answer first, then what learns nothing."""

FOLDS = 5
SHARES = (0.25, 0.5, 1.0)
"""Of the training samples, from which the learning curve is drawn."""
ENOUGH = 10
"""Choice: answers of the rarer class with which the folds of a usual data set can be fitted."""

Scores = Mapping[str, Floats]


def output(spec: RecommendSpec) -> Path:
    """Return the store: nothing is written."""
    return Path(spec.store)


def run(spec: RecommendSpec, watch: Watch) -> Outcome:
    """Fit what could be deployed out of fold, and say which of it to deploy."""
    training = training_rows(Selection((spec.store,), spec.split, spec.grades, keep_rows=True))
    if spec.layer is not None:
        check_layer(training.store, spec.layer)
    layer = pick_layer(training.store, make("kernel-probe", {}), spec.layer)
    examples = Examples(training.store, training.rows, training.correct, layer, grades=training.parsed)
    folds = _folds(examples, spec.seed)
    with watch("recommend") as progress:
        advice = _advice(spec, examples, folds, " + ".join(training.graders), progress)
    deploy = advice.pick.name if advice.pick.is_above_chance else None
    commands = [] if deploy is None else _commands(spec, deploy, set(training.store.samples["split"]))
    warned = scarcity(training.correct, examples.groups, "training samples", LEARNED)
    facts = {**asdict(advice), "deploy": deploy, "commands": commands}
    facts["warnings"] = [asdict(warning) for warning in warned]
    text, tables = page(advice, commands), [table(advice)]
    return Outcome(Path(spec.store), False, text, facts, tables, payload=facts, warnings=warned)


def _folds(examples: Examples, seed: int) -> Folds:
    """Return the folds that every candidate is fitted on.

    Raises:
        InvalidInputError: all samples share one image, or a fit would see fewer than two right or wrong answers.
    """
    folds = group_folds(examples.groups, FOLDS, seed, "recommend")
    n, right = len(examples), int(examples.labels.sum())
    seen = [int(examples.labels[inside].sum()) for inside, _ in folds]
    if all(min(ones, len(inside) - ones) >= 2 for ones, (inside, _) in zip(seen, folds, strict=True)):
        return folds
    rarer = min(right, n - right)
    needed = f"; about {max(2 * ENOUGH, math.ceil(ENOUGH * n / rarer)):,} like these would do" if rarer else ""
    raise InvalidInputError(
        f"{counted(n, 'training sample')}, {n - right:,} answered wrongly: with one fold of {len(folds)} held out a "
        f"fit sees fewer than two right or two wrong answers{needed}",
        hint="extract more samples",
    )


def _advice(spec: RecommendSpec, examples: Examples, folds: Folds, grader: str, progress: Progress) -> Advice:
    names = _names(examples, spec.before_answer)
    members = list(dict.fromkeys(member for name in names for member in _members(name)))
    logits: dict[str, Floats] = {}
    for number, name in enumerate(members):
        progress(number, len(members) + 1)
        logits[name] = _logits(name, examples, folds, spec.seed)
    scores = {name: _stacked(name, logits, examples, folds, spec.seed) for name in names}
    ranked = candidates(examples.labels > 0, scores, examples.groups, spec.budget, spec.seed)
    pick = chosen(ranked, CHEAPEST_FIRST)
    curve, doubling, too_few = _curve(pick.name, scores[pick.name], examples, folds, spec.seed)
    progress(len(members) + 1, len(members) + 1)
    correct = examples.labels > 0
    return Advice(
        pick=pick,
        candidates=ranked,
        before_answer={name: not method_class(name).traits.reads_answer for name in names},
        curve=curve,
        doubling=doubling,
        too_few=too_few,
        weak=weak_slices(correct, scores[pick.name], examples.groups, spec.budget, examples.table),
        small=kept_of(correct, np.ones(len(examples), bool), examples.groups),
        n=len(examples),
        grader=grader,
        budget=spec.budget,
    )


def _names(examples: Examples, before_answer: bool) -> list[str]:
    """Return the methods that the store has everything for: answers, and the layers that they read."""
    answers = examples.store.manifest.identity.has_answers and "logprobs" in examples.table.columns
    names = [*BEFORE, *(AFTER if answers and not before_answer else ())]
    return [name for name in names if {*make(name, {}).layers(examples.layer)} <= {*examples.store.layers}]


def _members(name: str) -> tuple[str, ...]:
    """Return what a method stacks, or itself."""
    probe = make(name, {})
    return tuple(probe.members_) if isinstance(probe, Stacks) else (name,)


def _logits(name: str, examples: Examples, folds: Folds, seed: int) -> Floats:
    """Return out-of-fold logits ``[N]``, or what a method says that learns nothing."""
    if method_class(name).traits.trains:
        return out_of_fold(make(name, {}), examples, folds, seed)[0]
    return make(name, {}).predict_proba(examples).astype(np.float64)


def _stacked(name: str, logits: Scores, examples: Examples, folds: Folds, seed: int) -> Floats:
    """Return the scores of a method out of fold; a stack's are made from those of its members."""
    members = _members(name)
    if members == (name,):
        return logits[name]
    said = {member: logits[member] for member in members}
    choice = Choice(said, examples.labels, examples.groups, folds, seed, STRENGTHS)
    return choice.held(*choice.best())


def _curve(
    name: str, whole: Floats, examples: Examples, folds: Folds, seed: int
) -> tuple[list[Point], Difference | None, list[int]]:
    """Return the learning curve of a method, what its last doubling has brought, and sizes too small to learn from."""
    if not all(method_class(member).traits.trains for member in _members(name)):
        return [], None, []
    rows, learned, too_few = {}, {1.0: _learned(folds)}, []
    for part in SHARES[:-1]:
        fewer = [(_some_groups(examples.groups, inside, part, seed), outside) for inside, outside in folds]
        learned[part] = _learned(fewer)
        try:
            rows[part] = _with_share(name, examples, fewer, folds, seed)
        except InvalidInputError:  # the whole was fitted: what is refused is how few these are
            too_few.append(learned[part])
    rows[1.0] = whole
    estimates = bootstrap_auc(examples.labels > 0, np.stack(list(rows.values())), examples.groups, RESAMPLES, seed)
    points = [Point(learned[part], auc.known, auc.ci95) for part, auc in zip(rows, estimates, strict=True)]
    return points, estimates[-1].minus(estimates[-2]).test() if SHARES[-2] in rows else None, too_few


def _with_share(name: str, examples: Examples, fewer: Folds, folds: Folds, seed: int) -> Floats:
    """Return out-of-fold scores of fits that see a share of the image groups that they could."""
    logits = {member: _logits(member, examples, fewer, seed) for member in _members(name)}
    return _stacked(name, logits, examples, folds, seed)


def _learned(folds: Folds) -> int:
    """Return from how many samples the fits of some folds learn, on average."""
    return round(sum(len(inside) for inside, _ in folds) / len(folds))


def _some_groups(groups: Groups, inside: npt.NDArray[np.int64], part: float, seed: int) -> npt.NDArray[np.int64]:
    """Return the samples of a share of the image groups that a fit could see."""
    names = np.unique(groups[inside])
    some = np.random.default_rng(seed).permutation(names)[: max(2, round(part * len(names)))]
    return inside[np.isin(groups[inside], some)]


def _commands(spec: RecommendSpec, method: str, splits: Collection[str]) -> list[str]:
    """Return what to type next: the fit that was advised, and a bundle with a threshold for the budget.

    Args:
        spec: what the advice was computed with.
        method: that is deployed.
        splits: of the store; the threshold is set on some that the router does not learn from.
    """
    judged = {"store": spec.store, "grades": spec.grades}
    goal: dict[str, Any] = {**judged, "router": method, "budget": spec.budget}
    if not method_class(method).traits.trains:
        return [to_type(build("calibrate", goal))]
    fit = build("fit", {**judged, "method": method, "layer": spec.layer, "split": spec.split})
    goal["router"] = str(router_folder(spec.store, method))
    if "validation" in spec.split and (unseen := sorted({*splits} - {*spec.split})):
        goal["split"] = unseen
    return [to_type(fit), to_type(build("calibrate", goal))]


STEP = Step(run, output, version=2)
