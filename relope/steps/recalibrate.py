"""A bundle calibrated anew from what its server logged; the step ``calibrate`` with ``--from-log``."""

import dataclasses
import datetime
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from relope.errors import InvalidInputError
from relope.evaluate.numbers.calibration import Calibration, fit_calibration
from relope.evaluate.numbers.estimates import Population, share_term
from relope.evaluate.numbers.guarantee import (
    ERROR,
    SHARE,
    Promise,
    independent,
    over_all,
    promise_budget,
    promise_error,
)
from relope.evaluate.numbers.intervals import Z95
from relope.evaluate.numbers.thresholds import SHARES, ThresholdRow, percent_thresholds
from relope.provenance import digest
from relope.serve.bundle import CARD, LIVE, Bundle, Made, load_bundle
from relope.serve.card import goal_text, promise_text
from relope.spec import CalibrateSpec
from relope.steps.live_log import Live, read_live
from relope.steps.outcomes import Calibrated
from relope.steps.promises import beyond_groups, check_place, promised, put_bundle, reference_scores
from relope.types import ResultWarning, Watch
from relope.words import counted

VERSION = 1
FEWEST = 100
"""Choice: outcomes from which on scores are calibrated anew."""


def recalibrated(spec: CalibrateSpec, out: Path, watch: Watch) -> Calibrated:
    """Set a bundle's threshold on live requests, and say whether its old one still keeps its promise."""
    assert spec.bundle is not None and spec.from_log is not None  # `check` has let them through
    check_place(out)
    old = load_bundle(spec.bundle)
    with watch("read the log"):
        live = read_live(spec.from_log, spec.feedback, old.fingerprint[:12])
    alone = independent(live.groups, spec.seed)
    stands = standing(old.promise, live, alone)
    promise = _with_all(promised(_promise(spec, live, alone)), live, alone)
    bundle = dataclasses.replace(
        old,
        promise=promise,
        calibration=_calibration(spec, old, live),
        accuracy_is="kept",
        table=tuple(_table(live, Population.of(live.groups, spec.seed))),
        made=_made(old, live),
        fingerprint=digest([VERSION, old.fingerprint, dataclasses.asdict(promise), live.scores.tolist(), spec.seed,
                            live.right.tolist()]),
        scores=reference_scores(live.scores[alone], spec.seed),
    )  # fmt: skip
    bundle = put_bundle(out, bundle, _files_of(spec.bundle, old))
    text = f"{stands}\npromised now: {promise_text(bundle)}; scores below {bundle.threshold:.6g} are escalated\n→ {out}"
    facts = {
        "old_promise": stands,
        "threshold": bundle.threshold,
        "n": len(live.scores),
        "n_judged": int(live.judged.sum()),
    }
    return Calibrated(out, False, text, facts, warnings=[*_warned(spec, live), *beyond_groups(bundle)])


def standing(promise: Promise, live: Live, alone: np.ndarray) -> str:
    """Say whether a promise still holds for live requests, by exact binomial bounds (Clopper and Pearson 1934).

    Args:
        promise: the old one.
        live: the requests.
        alone: indices of independent ones.
    """
    from scipy.stats import beta

    head = f"the old promise ({goal_text(promise)} at {promise.threshold:.6g})"
    counts = _counted(promise, live, alone)
    if counts is None:
        return f"{head} cannot be checked: the log does not hold what it speaks of"
    k, n = counts
    high = 1.0 if k == n else float(beta.ppf(promise.confidence, k + 1, n - k))
    low = 0.0 if k == 0 else float(beta.ppf(1 - promise.confidence, k, n - k + 1))
    share = f"{100 * k / n:.1f} % of {n:,} independent requests, between {100 * low:.1f} and {100 * high:.1f} %"
    if high <= promise.bound:
        return f"{head} is kept: {share}"
    return f"{head} is {'broken' if low > promise.bound else 'not shown either way'}: {share}"


def _counted(promise: Promise, live: Live, alone: np.ndarray) -> tuple[int, int] | None:
    """Return how many of how many independent requests go against a promise; None where that is not known."""
    threshold = float("nan") if promise.threshold is None else promise.threshold
    below = live.scores[alone] < threshold
    if promise.holds == SHARE:
        return int(below.sum()), len(alone)
    kept = live.known[alone] & ~below
    if promise.holds != ERROR or live.from_score > threshold or not kept.any():
        return None
    return int((kept & ~live.right[alone]).sum()), int(kept.sum())


def _promise(spec: CalibrateSpec, live: Live, alone: np.ndarray) -> Promise:
    if spec.budget is not None:
        return promise_budget(live.scores[alone], spec.budget, spec.confidence)
    bound = spec.max_error if spec.max_error is not None else 1 - (spec.min_accuracy or 0)
    known = alone[live.known[alone]]
    if not len(known):
        raise InvalidInputError(
            "no outcome of the small model's answers is known", hint="add --feedback FILE, or set a --budget"
        )
    return promise_error(live.scores[known], ~live.right[known], bound, spec.confidence)


def _with_all(promise: Promise, live: Live, alone: np.ndarray) -> Promise:
    """Return a promise with what it comes to where every request of each conversation counts."""
    if len(alone) == len(live.scores):
        return promise
    counts = np.ones(len(live.scores), bool) if promise.holds == SHARE else live.known
    return dataclasses.replace(promise, on_all=over_all(promise, live.scores[counts], live.right[counts]))


def _calibration(spec: CalibrateSpec, old: Bundle, live: Live) -> Calibration:
    """Fit P(correct) anew where outcomes of all scores are known, else keep the old map."""
    judged, whole = live.judged, live.from_score == float("-inf")
    if not whole or judged.sum() < FEWEST or live.right[judged].all() or not live.right[judged].any():
        return old.calibration
    return fit_calibration(live.scores[judged], live.right[judged], spec.calibration)


def _table(live: Live, population: Population) -> list[ThresholdRow]:
    """Return shares of all requests, and the accuracy of what is kept where it is known."""
    rows = []
    for percent, threshold in zip(SHARES, percent_thresholds(live.scores), strict=True):
        share = share_term(live.scores < threshold, population)
        kept = np.flatnonzero(live.known & (live.scores >= threshold))
        is_known = len(kept) and threshold >= live.from_score
        right = share_term(live.right[kept], population.at(kept)) if is_known else None
        rows.append(
            ThresholdRow(percent, float(threshold), share.value, share.bounds(Z95),
                         None if right is None else right.value, None if right is None else right.bounds(Z95))
        )  # fmt: skip
    return rows


def _made(old: Bundle, live: Live) -> Made:
    return Made(
        dataset=LIVE,
        splits=("log",),
        n=len(live.scores),
        n_groups=len(np.unique(live.groups)),
        n_correct=int(live.right.sum()),
        n_judged=int(live.judged.sum()),
        auc=None,
        auc_ci95=None,
        grader="feedback",
        large="",
        recipe_id=old.made.recipe_id,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def _warned(spec: CalibrateSpec, live: Live) -> list[ResultWarning]:
    warned = []
    if spec.budget is None:
        text = f"outcomes of {live.judged.sum():,} of {len(live.scores):,} requests are known; the promise supposes"
        warned.append(ResultWarning("note", f"{text} that which ones are has nothing to do with being right"))
    if live.others:
        text = f"{counted(live.others, 'request')} in the log {'was' if live.others == 1 else 'were'}"
        warned.append(ResultWarning("note", f"{text} decided by another bundle"))
    return warned


def _files_of(folder: Path, bundle: Bundle) -> Callable[[Path], None]:
    """Return what copies a bundle's files, all but its card, into another folder."""

    def fill(partial: Path) -> None:
        for name in bundle.files:
            if name != CARD:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, partial / name)

    return fill
