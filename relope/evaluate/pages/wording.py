"""How numbers and findings are put into words; everything returned is plain text, not HTML."""

import re
from collections.abc import Callable
from typing import Any

from relope.evaluate.numbers.inputs import BASELINE

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EM DASH}"
NARROW = "\N{NARROW NO-BREAK SPACE}"
RANGE = "\N{EN DASH}"

Json = dict[str, Any]
Writer = Callable[[float], str]


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share as percent."""
    return DASH if share is None else f"{100 * share:.{digits}f}{NARROW}%".replace("-", MINUS)


def fraction(value: float | None, digits: int = 3) -> str:
    """Write a number between 0 and 1."""
    return DASH if value is None else f"{value:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """Write a difference with its sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def points(share: float, digits: int = 1) -> str:
    """Write a difference of shares in points."""
    return f"{signed(100 * share, digits)} points"


def between(bounds: list[float] | None, digits: int = 3) -> str:
    """Write an interval of numbers between 0 and 1."""
    return DASH if bounds is None else f"{bounds[0]:.{digits}f}{RANGE}{bounds[1]:.{digits}f}"


def between_percent(bounds: list[float] | None, digits: int = 1) -> str:
    """Write an interval of shares as percent."""
    if bounds is None:
        return DASH
    return f"{100 * bounds[0]:.{digits}f}{RANGE}{100 * bounds[1]:.{digits}f}{NARROW}%"


def between_signed(bounds: list[float], digits: int = 3) -> str:
    """Write an interval of differences."""
    return f"{signed(bounds[0], digits)} to {signed(bounds[1], digits)}"


def p_value(p: float) -> str:
    """Write a p-value to the precision that matters."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def seconds(value: float | None) -> str:
    """Write a duration."""
    if value is None:
        return DASH
    if value < 10:
        return "< 0.1 s" if value < 0.05 else f"{value:.1f} s"
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def milliseconds(value: float | None) -> str:
    """Write the time of one query, given in seconds."""
    return DASH if value is None else f"{1000 * value:.2g} ms"


def size(n_bytes: float | None) -> str:
    """Write a number of bytes."""
    if n_bytes is None:
        return DASH
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.3g} {unit}"
    return f"{n_bytes:.0f} B" if n_bytes else "nothing"


def listed(names: list[str]) -> str:
    """Join names as a sentence does."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def plain(value: Any) -> str:
    """Write a setting or a digest as a person reads it; nested values stand in brackets."""
    if value is None or isinstance(value, bool):
        return DASH if value is None else "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{str(key).replace('_', ' ')} {_nested(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_nested, value)) or "none"
    return str(value)[:12] if re.fullmatch("[0-9a-f]{32,64}", str(value)) else str(value)


def _nested(value: Any) -> str:
    return (
        f"({plain(value)})" if isinstance(value, dict) or (isinstance(value, list) and len(value) > 1) else plain(value)
    )


def verdict(method: Json) -> str:
    """Say how a method compares with the baseline."""
    if method["method"] == BASELINE:
        return "baseline"
    difference = method["difference_to_probe"]
    return DASH if difference is None else str(difference["verdict"])


def finding(report: Json) -> list[str]:
    """Say in a few sentences what the comparison shows, and what it does not."""
    rows = {row["method"]: row for row in report["methods"]}
    best = rows[report["best"]]
    if best["auc"] is None:
        return [f"No method can be ranked: {best['auc_null_reason']}."]
    return [_comparison(report, rows, best), *_controls(report, best)]


def _comparison(report: Json, rows: dict[str, Json], best: Json) -> str:
    lead = f"The best AUC here is {fraction(best['auc'])} ({best['method']}"
    baseline = rows.get(BASELINE)
    if baseline is None:
        return f"{lead}); {BASELINE} was not run, so nothing is compared with it."
    others = [row for row in rows.values() if row["difference_to_probe"] and not row["is_control"]]
    if not others:
        return f"{lead}); there is no other method to compare it with."
    higher = [row["method"] for row in others if row["difference_to_probe"]["verdict"] == "higher"]
    if best["method"] in higher:
        gap = best["difference_to_probe"]
        more = [name for name in higher if name != best["method"]]
        also = f" Also higher than {BASELINE}: {listed(more)}." if more else ""
        return (
            f"{lead}): {signed(gap['value'])} over {BASELINE}, paired 95 % interval "
            f"{between_signed(gap['ci95'])}.{also}"
        )
    if any(row["difference_to_probe"]["verdict"] != "no difference shown" for row in others):
        tail = f"no method is shown to be better than {BASELINE}; some are shown to be worse."
    else:
        tail = f"no difference to {BASELINE} is shown (paired, corrected for the number of methods)."
    if best is baseline:
        return f"{lead}); {tail}"
    low, high = baseline["ci95"]
    inside = "within" if low <= best["auc"] <= high else "outside"
    return f"{lead}), {inside} the interval of {BASELINE} ({between(baseline['ci95'])}); {tail}"


def _controls(report: Json, best: Json) -> list[str]:
    controls = [row for row in report["methods"] if row["is_control"] and row["auc"] is not None]
    if not controls:
        return []
    top = max(controls, key=lambda row: float(row["auc"]))
    gap = top["best_over_control"]
    if best["is_control"] or gap is None:
        return []
    reach = f"The control {top['method']}, which looks at no hidden state, reaches an AUC of {fraction(top['auc'])}"
    bounds = between_signed(gap["ci95"])
    lead = f"{best['method']} differs from it by {signed(gap['value'])} (paired 95 % interval {bounds})"
    if gap["verdict"] == "higher":
        return [f"{reach}; {lead}."]
    return [f"{reach}; {lead}, so the hidden states are not shown to add anything here."]
