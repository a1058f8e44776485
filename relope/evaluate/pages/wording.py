"""How numbers are put into words; everything returned is plain text, not HTML."""

import re
from collections.abc import Sequence
from typing import Any

from relope.evaluate.numbers.inputs import BASELINE
from relope.evaluate.numbers.records import MethodRow, Report
from relope.evaluate.numbers.significance import ALPHA

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EM DASH}"
NARROW = "\N{NARROW NO-BREAK SPACE}"
NBSP = "\N{NO-BREAK SPACE}"
RANGE = "\N{EN DASH}"
NO_INTERVAL = "no interval"


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share as percent."""
    return DASH if share is None else f"{100 * share:.{digits}f}{NARROW}%".replace("-", MINUS)


def fraction(value: float | None, digits: int = 3) -> str:
    """Write a number between 0 and 1."""
    return DASH if value is None else f"{value:.{digits}f}"


def share(value: float) -> str:
    """Write a share that somebody asked for, with no more digits than it has."""
    return f"{round(100 * value, 6):g}{NARROW}%"


def price(dollars: float | None) -> str:
    """Write a price of a query, for a thousand of them, to three digits."""
    if dollars is None:
        return DASH
    thousand = 1000 * dollars
    return f"${thousand:,.0f}" if thousand >= 100 else f"${thousand:.3g}"


def signed(value: float, digits: int = 3) -> str:
    """Write a difference with its sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def points(share: float, digits: int = 1) -> str:
    """Write a difference of shares in points."""
    return f"{signed(100 * share, digits)} points"


def between(bounds: Sequence[float] | None, digits: int = 3) -> str:
    """Write an interval of numbers between 0 and 1."""
    return DASH if bounds is None else f"{bounds[0]:.{digits}f}{RANGE}{bounds[1]:.{digits}f}"


def between_percent(bounds: Sequence[float] | None, digits: int = 1) -> str:
    """Write an interval of shares as percent."""
    if bounds is None:
        return DASH
    return f"{100 * bounds[0]:.{digits}f}{RANGE}{100 * bounds[1]:.{digits}f}{NARROW}%"


def between_signed(bounds: Sequence[float], digits: int = 3) -> str:
    """Write an interval of differences."""
    return f"{signed(bounds[0], digits)} to {signed(bounds[1], digits)}"


def p_value(p: float) -> str:
    """Write a p-value to the precision that matters."""
    number = p_number(p)
    return f"p {number}" if number.startswith("<") else f"p = {number}"


def p_number(p: float) -> str:
    """Write a p-value without the letter: with as many digits as show on which side of α it lies."""
    if p < 0.001:
        return "< 0.001"
    texts = (f"{p:.{digits}f}" for digits in range(3, 8))
    return next((text for text in texts if (float(text) < ALPHA) == (p < ALPHA)), f"< {ALPHA:g}")


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


def listed(names: Sequence[str]) -> str:
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


def standing(method: MethodRow) -> str:
    """Say how a method compares with the baseline."""
    if method.seen:
        return "has seen the answers"
    if method.method == BASELINE:
        return "baseline"
    return DASH if method.difference_to_probe is None else method.difference_to_probe.verdict


def judged_on(report: Report) -> str:
    """Say what every number of a report is of: ``300 samples (test split), judged by exact@5``."""
    told = report.provenance
    splits = told.get("split") or []
    named = f" ({', '.join(splits)} split{'s' * (len(splits) > 1)})" if isinstance(splits, list) and splits else ""
    by = f", judged by {told['grader']}" if told.get("grader") else ""
    return f"{report.n:,} samples{named}{by}"


def of_first_seed(report: Report) -> str:
    """Say that what stands here is of one seed, in reports where a method has several."""
    several = any(len(method.seeds) > 1 for method in report.methods)
    return " Of the first seed where a method has several." if several else ""


def intervals(report: Report) -> str:
    """Say how the intervals of a report were made."""
    dropped = report.resamples_dropped
    left_out = f", {dropped:,} left out since one class was absent" if dropped else ""
    if report.auc_interval == "bootstrap":
        return f"95 % percentiles of {report.resamples:,} bootstrap resamples of whole groups{left_out}"
    if report.auc_interval == "closed form, many samples":
        return (
            "95 %; AUCs and their differences by score intervals in closed form, their variances summed over groups; "
            f"the rest from the standard deviation over {report.resamples:,} bootstrap resamples of whole groups"
        )
    return (
        f"95 %; AUCs, accuracies and their differences by score intervals in closed form, since the bootstrap is too "
        f"narrow at {report.n_minority:,} groups with the rarer class; the rest percentiles of {report.resamples:,} "
        f"bootstrap resamples of whole groups{left_out}"
    )
