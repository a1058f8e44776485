"""What a report shows, and what it does not, in a few sentences."""

from relope.evaluate.numbers.inputs import BASELINE
from relope.evaluate.numbers.records import MethodRow, Report
from relope.evaluate.pages.wording import between, between_signed, fraction, listed, signed


def findings(report: Report) -> list[str]:
    """Say in a few sentences what the comparison shows, and what it does not."""
    best = report.best_row
    if best.auc is None:
        return [f"No method can be ranked: {best.auc_null_reason}."]
    return [_comparison(report, best), *_controls(report, best)]


def _comparison(report: Report, best: MethodRow) -> str:
    lead = f"The best AUC here is {fraction(best.auc)} ({best.method}"
    baseline = next((row for row in report.methods if row.method == BASELINE), None)
    if baseline is None:
        return f"{lead}); {BASELINE} was not run, so nothing is compared with it."
    gaps = {
        row.method: row.difference_to_probe
        for row in report.methods
        if row.difference_to_probe is not None and not row.is_control and not row.seen
    }
    if not gaps:
        return f"{lead}); there is no other method to compare it with."
    higher = [method for method, gap in gaps.items() if gap.verdict == "higher"]
    if best.method in higher:
        gap = gaps[best.method]
        more = [name for name in higher if name != best.method]
        also = f" Also higher than {BASELINE}: {listed(more)}." if more else ""
        return f"{lead}): {signed(gap.value)} over {BASELINE}, paired 95 % interval {between_signed(gap.ci95)}.{also}"
    if any(gap.verdict == "too few to tell" for gap in gaps.values()):
        tail = f"too few answers of one class to tell any method from {BASELINE}."
    elif any(gap.verdict != "no difference shown" for gap in gaps.values()):
        tail = f"no method is shown to be better than {BASELINE}; some are shown to be worse."
    else:
        tail = f"no difference to {BASELINE} is shown (paired, corrected for the number of methods)."
    if best is baseline or baseline.ci95 is None:
        return f"{lead}); {tail}"
    low, high = baseline.ci95
    inside = "within" if low <= (best.auc or 0) <= high else "outside"
    return f"{lead}), {inside} the interval of {BASELINE} ({between(baseline.ci95)}); {tail}"


def _controls(report: Report, best: MethodRow) -> list[str]:
    controls = [row for row in report.methods if row.is_control and row.auc is not None]
    if not controls:
        return []
    top = max(controls, key=lambda row: row.auc or 0.0)
    gap = top.best_over_control
    if best.is_control or gap is None:
        return []
    reach = f"The control {top.method}, which looks at no hidden state, reaches an AUC of {fraction(top.auc)}"
    bounds = between_signed(gap.ci95)
    lead = f"{best.method} differs from it by {signed(gap.value)} (paired 95 % interval {bounds})"
    if gap.verdict == "higher":
        return [f"{reach}; {lead}."]
    if gap.verdict == "too few to tell":
        return [f"{reach}; {lead}, which too few answers of one class can tell."]
    if best.layer is None:
        return [f"{reach}; {lead}, which is no difference shown."]
    return [f"{reach}; {lead}, so the hidden states are not shown to add anything here."]
