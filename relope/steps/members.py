"""What each member adds to a stack, out of fold: told beside a fit."""

from typing import Any

import numpy as np

from relope.evaluate.numbers.bootstrap import bootstrap_auc
from relope.evaluate.numbers.significance import Comparison, compared
from relope.probes.stack import OutOfFold
from relope.types import TextTable

_RESAMPLES = 1000


def added(out_of_fold: OutOfFold, seed: int) -> dict[str, Comparison]:
    """Return by how much the AUC of a stack exceeds that of the same without each member; Holm's over all of them."""
    without = out_of_fold.without
    scores = np.stack([out_of_fold.stack, *without.values()])
    whole, *others = bootstrap_auc(out_of_fold.correct, scores, out_of_fold.groups, _RESAMPLES, seed)
    return compared({name: whole.minus(other).test() for name, other in zip(without, others, strict=True)})


def told(out_of_fold: OutOfFold, seed: int) -> tuple[TextTable, dict[str, Any]]:
    """Return a table of the members and the same as JSON values."""
    alone, gaps = out_of_fold.alone, added(out_of_fold, seed)
    scores = np.stack([out_of_fold.stack, *alone.values()])
    estimates = bootstrap_auc(out_of_fold.correct, scores, out_of_fold.groups, _RESAMPLES, seed)
    aucs = dict(zip(["the stack", *alone], estimates, strict=True))
    facts = {name: {"auc": auc.known, "ci95": auc.ci95, "adds": _plain(gaps.get(name))} for name, auc in aucs.items()}
    rows = []
    for name, auc in aucs.items():
        gap, low_high = gaps.get(name), auc.ci95
        number = "—" if low_high is None else f"{auc.value:.3f} ({low_high[0]:.3f}–{low_high[1]:.3f})"
        adds = f"{gap.value:+.4f} ({gap.ci95[0]:+.4f} to {gap.ci95[1]:+.4f})" if gap else ""
        verdict = {"higher": "adds", "lower": "harms"}.get(gap.verdict, gap.verdict) if gap else ""
        left = "" if gap or name == "the stack" or len(out_of_fold.without) == 0 else "left out"
        rows.append([name, number, adds, verdict or left])
    n = f"{len(out_of_fold.correct):,}"
    title = f"AUC out of fold on the {n} samples learned from, and what the stack loses without each member (95 %)"
    return TextTable(title, ["method", "AUC alone", "it adds", ""], rows), {"members": facts}


def _plain(gap: Comparison | None) -> dict[str, Any] | None:
    if gap is None:
        return None
    return {"auc": gap.value, "ci95": list(gap.ci95), "p_holm": gap.p_holm, "verdict": gap.verdict}
