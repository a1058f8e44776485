"""What changed between two reports."""

from pathlib import Path

from relope.errors import InvalidInputError
from relope.evaluate.numbers.draws import Drawn, align_reports, draw_aucs
from relope.evaluate.numbers.metrics import auc_null_reason
from relope.evaluate.numbers.persample import Evaluated, read_report
from relope.evaluate.numbers.significance import ALPHA, holm
from relope.evaluate.pages.export import hundred, signed_hundred
from relope.evaluate.pages.wording import DASH, Json

COLUMNS = ["method", "first", "second", "change", "p (Holm)", "verdict"]


def compare_reports(first: Path, second: Path, resamples: int, seed: int) -> Json:
    """Return each method's AUC in both reports, and the change with its interval.

    Paired when the samples are the same; otherwise the two are resampled independently.

    Raises:
        NotFoundError: a folder has no report.
        InvalidInputError: a report is damaged, or the two share no method.
    """
    (one, two), paired = _aligned(read_report(first), read_report(second))
    drawn = draw_aucs(one, resamples, seed), draw_aucs(two, resamples, seed if paired else seed + 1)
    methods = [name for name in one.scores if name in two.scores]
    only = {
        "only_in_first": [name for name in one.scores if name not in two.scores],
        "only_in_second": [name for name in two.scores if name not in one.scores],
    }
    records = _changes(drawn[0], drawn[1], methods)
    reason = auc_null_reason(one.correct) or auc_null_reason(two.correct)
    sizes = {"n_first": len(one.correct), "n_second": len(two.correct), "null_reason": reason}
    return {
        "title": "AUC × 100: change from first to second",
        "what": _what(one, two, paired, only),
        "paired": paired,
        "columns": COLUMNS,
        "rows": [_row(record) for record in records],
        "records": [{**record, **sizes} for record in records],
        **only,
        "accuracy": [float(one.correct.mean()), float(two.correct.mean())],
        "settings_changed": _settings(one, two),
    }


def _changes(first: dict[str, Drawn], second: dict[str, Drawn], methods: list[str]) -> list[Json]:
    """Return a record a method: both AUCs and the change, its p-value corrected for all methods."""
    changes = {name: second[name].minus(first[name]) for name in methods}
    tests = {name: change.test() for name, change in changes.items()}
    known = {name: test for name, test in tests.items() if test is not None}
    adjusted = dict(zip(known, holm([test.p for test in known.values()]), strict=True))
    found = []
    for name in methods:
        test, p = tests[name], adjusted.get(name)
        verdict = (
            DASH if p is None else "no change shown" if p >= ALPHA else "higher" if changes[name].value > 0 else "lower"
        )
        found.append({
            "method": name, "first": first[name].known, "first_ci95": first[name].ci95, "second": second[name].known,
            "second_ci95": second[name].ci95, "change": changes[name].known,
            "ci95": None if test is None else [test.low, test.high], "p": None if test is None else test.p,
            "p_holm": p, "verdict": verdict,
        })  # fmt: skip
    return found


def _row(record: Json) -> list[str]:
    return [
        record["method"], hundred(record["first"], record["first_ci95"]),
        hundred(record["second"], record["second_ci95"]), signed_hundred(record["change"], record["ci95"]),
        DASH if record["p_holm"] is None else f"{record['p_holm']:.3f}", record["verdict"],
    ]  # fmt: skip


def _aligned(first: Evaluated, second: Evaluated) -> tuple[list[Evaluated], bool]:
    if not set(first.scores) & set(second.scores):
        raise InvalidInputError(
            f"{first.path} has the methods {', '.join(first.scores)}, {second.path} has {', '.join(second.scores)}: "
            "none in common, so nothing can be compared"
        )
    return align_reports(first, [second])


def _what(one: Evaluated, two: Evaluated, paired: bool, only: dict[str, list[str]]) -> str:
    how = f"the same {len(one.correct):,} samples, so changes are paired" if paired else (
        f"other samples ({len(one.correct):,} and {len(two.correct):,}), so changes are not paired"
    )  # fmt: skip
    flipped = int((one.correct != two.correct).sum()) if paired else 0
    verdicts = f"; {flipped:,} verdicts on the small model differ" if flipped else ""
    lone = "".join(
        f"\n{text}: {', '.join(names)}"
        for text, names in (
            ("only in the first", only["only_in_first"]),
            ("only in the second", only["only_in_second"]),
        )
        if names
    )
    changed = _settings(one, two)
    undefined = {str(report.path): auc_null_reason(report.correct) for report in (one, two)}
    lone += "".join(f"\nno AUC in {path}: {reason}" for path, reason in undefined.items() if reason)
    settings = f"\nchanged between the runs: {', '.join(changed)}" if changed else ""
    return f"{one.path} and {two.path}: {how}{verdicts}{lone}{settings}"


def _settings(one: Evaluated, two: Evaluated) -> list[str]:
    """Return the fields of the provenance in which two reports differ."""
    first, second = one.report["provenance"], two.report["provenance"]
    skipped = ("fingerprint", "versions", "scores")
    keys = [key for key in sorted({*first, *second}) if key not in skipped and first.get(key) != second.get(key)]
    versions = {*first.get("versions", {}).items()} ^ {*second.get("versions", {}).items()}
    return keys + sorted({name for name, _ in versions})
