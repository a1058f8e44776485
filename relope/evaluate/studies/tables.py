"""Tables 1 to 4: AUC by method and data set, by condition, by what was done to the pictures."""

from collections.abc import Sequence

import numpy as np

from relope.errors import InvalidInputError
from relope.evaluate.numbers.draws import UNKNOWN, Drawn, align_reports, draw_aucs, mean
from relope.evaluate.numbers.inputs import BASELINE
from relope.evaluate.numbers.metrics import auc_null_reason
from relope.evaluate.numbers.persample import Evaluated, perturbation_name
from relope.evaluate.numbers.significance import ALPHA, holm
from relope.evaluate.pages.export import Table, hundred, signed_hundred
from relope.evaluate.pages.wording import DASH, Json
from relope.evaluate.studies import published
from relope.evaluate.studies.inputs import Study, StudyInputs

PAIRED = "Intervals are 95 % bootstrap intervals over image groups; differences use the same resamples."
SEEDS = "AUCs are means over the seeds of a method; intervals cover the sampling of questions, not of seeds."
CANNOT = (
    "The numbers hold for these models, data and splits. An interval says how far the AUC may move with other "
    "questions of the same kind, not with other models or data."
)
TINY = (
    " The embedded models are miniatures: that a number can be made at all is shown here, not what a 7–12 B model does."
)

TEXT_SUBSET = "-text"
"""Ends the name of the part of a data set that has no pictures; the paper sets it against the rest (ScienceQA)."""

Cells = dict[tuple[str, str], dict[str, Drawn]]
"""(model, data set) → method → AUC."""


def shows(inputs: StudyInputs, text: str) -> str:
    """Return what a study's numbers can and cannot show."""
    tiny = any(one.model.startswith("tiny-") for one in inputs.reports)
    return f"{text} {CANNOT}{TINY if tiny else ''}"


def record(one: Evaluated, method: str, drawn: Drawn, paper: float | None = None, **more: object) -> Json:
    """Return a number with everything that says what it is of."""
    low, high = drawn.ci95 or (None, None)
    known = method in one.scores
    return {
        "model": one.model, "data": one.report["dataset"], **more, "method": method, "n": len(one.correct),
        "groups": len(np.unique(one.groups)), "seeds": len(one.scores[method]) if known else 0,
        "value": drawn.known, "ci95_low": low, "ci95_high": high, "published": paper,
        "null_reason": None if drawn.known is not None else _reason(one, method),
    }  # fmt: skip


def _reason(one: Evaluated, method: str) -> str:
    if method not in one.scores:
        return f"{method} was not run"
    return auc_null_reason(one.correct) or "one of its parts is undefined"


def unknown_notes(records: Sequence[Json]) -> list[str]:
    """Say in a note why numbers are missing."""
    found: dict[str, set[str]] = {}
    for row in records:
        if row["null_reason"]:
            found.setdefault(row["null_reason"], set()).add(str(row["data"]))
    return [f"{DASH} ({', '.join(sorted(data))}): {reason}." for reason, data in found.items()]


def cell(drawn: Drawn, paper: float | None) -> str:
    """Write an AUC × 100 with its interval and the published number."""
    text = hundred(drawn.known, drawn.ci95)
    return text if paper is None else f"{text[:-1]}; paper {100 * paper:.1f})" if text.endswith(")") else text


def draw_cells(inputs: StudyInputs, reports: Sequence[Evaluated]) -> Cells:
    """Return the AUCs of reports, one a model and data set.

    Raises:
        InvalidInputError: two reports are of the same model and data set.
    """
    found: Cells = {}
    for place, one in enumerate(reports):
        key = (one.model, one.dataset)
        if key in found:
            other = next(report for report in reports if (report.model, report.dataset) == key)
            raise InvalidInputError(
                f"{other.path} and {one.path} are both about {one.model} on {one.dataset}; give one of them"
            )
        found[key] = draw_aucs(one, inputs.spec.bootstrap, inputs.spec.seed + place)
    return found


def grid(inputs: StudyInputs, reports: Sequence[Evaluated], name: str, title: str) -> list[Table]:
    """Return methods × data sets with averages, and each method's average difference to the baseline."""
    cells = draw_cells(inputs, reports)
    methods = inputs.methods(list(reports))
    models = list(dict.fromkeys(one.model for one in reports))
    datasets = list(dict.fromkeys(one.dataset for one in reports))
    rows: list[list[str]] = []
    records: list[Json] = []
    for model in models:
        mine = [one for one in reports if one.model == model]
        for method in methods:
            texts = {dataset: DASH for dataset in datasets}
            for one in mine:
                drawn = cells[model, one.dataset].get(method, UNKNOWN)
                paper = published.value(name, model, method, one.dataset)
                texts[one.dataset] = cell(drawn, paper)
                records.append(record(one, method, drawn, paper))
            average = mean([cells[model, one.dataset].get(method, UNKNOWN) for one in mine])
            rows.append([model, method, *texts.values(), hundred(average.known, average.ci95)])
    columns = ["model", "method", *(f"{name_of(dataset, reports)}" for dataset in datasets), "average"]
    main = Table(name, title, columns, rows, records, n_labels=2, notes=[PAIRED, SEEDS, *unknown_notes(records)])
    return [main, *_against_baseline(cells, models, methods, name), *published_tables(name)]


def name_of(dataset: str, reports: Sequence[Evaluated]) -> str:
    """Return a data set's name with the number of its samples."""
    sizes = sorted({len(one.correct) for one in reports if one.dataset == dataset})
    return f"{dataset}, n={'/'.join(f'{size:,}' for size in sizes)}"


def _against_baseline(cells: Cells, models: Sequence[str], methods: Sequence[str], name: str) -> list[Table]:
    rows, records = [], []
    for model in models:
        mine = [drawn for (owner, _), drawn in cells.items() if owner == model]
        full = [method for method in methods if all(method in drawn for drawn in mine)]
        if BASELINE not in full:
            continue
        others = [method for method in full if method != BASELINE]
        tests = {method: mean([drawn[method].minus(drawn[BASELINE]) for drawn in mine]).test() for method in others}
        known = {method: test for method, test in tests.items() if test is not None}
        for (method, test), p in zip(known.items(), holm([test.p for test in known.values()]), strict=True):
            verdict = "no difference shown" if p >= ALPHA else "higher" if test.value > 0 else "lower"
            rows.append([model, method, signed_hundred(test.value, (test.low, test.high)), f"{p:.3f}", verdict])
            records.append({
                "model": model, "method": method, "difference": test.value, "ci95_low": test.low,
                "ci95_high": test.high, "p": test.p, "p_holm": p, "verdict": verdict, "data_sets": len(mine),
            })  # fmt: skip
    if not rows:
        return []
    title = f"Average difference to {BASELINE} over the data sets, AUC × 100"
    columns = ["model", "method", f"difference to {BASELINE}", "p (Holm)", "verdict"]
    return [Table(f"{name}_differences", title, columns, rows, records, n_labels=2, notes=[PAIRED])]


def published_tables(name: str) -> list[Table]:
    """Return the paper's table as printed, averages computed anew where it has any."""
    printed = published.rows(name)
    keys = [key for key in printed[0] if not key.startswith(("avg", "delta", "matches"))]
    rows = [[row[key] for key in keys] for row in printed]
    notes = ["Printed in the paper (arXiv 2603.24787v1): AUC × 100, test sizes and intervals are not given there."]
    if name in ("table2", "table4"):
        keys = [*keys, "average"]
        rows = [[*cells, f"{published.average(row):.2f}"] for cells, row in zip(rows, printed, strict=True)]
    if wrong := [row for row in printed if row.get("avg_matches") == "NO"]:
        listed = "; ".join(f"{row['backbone']} {row['method']} prints {row['avg_printed']}" for row in wrong)
        notes.append(f"Averages are recomputed: {len(wrong)} printed ones are not the mean of their row ({listed}).")
    records = [dict(zip(keys, cells, strict=True)) for cells in rows]
    n_labels = len([key for key in keys if key in ("backbone", "method", "condition")])
    return [Table(f"{name}_published", "Published", keys, rows, records, n_labels=n_labels, notes=notes)]


def table1(inputs: StudyInputs) -> Study:
    """Table 1: the same methods on text alone and on text with pictures."""
    text = [one for one in inputs.reports if _without_pictures(one)]
    pictures = [one for one in inputs.reports if not _without_pictures(one)]
    if not text or not pictures:
        raise InvalidInputError(
            f"table1 compares reports of text-only and multimodal stores; got {len(text)} and {len(pictures)}; "
            "extract with --text-only into a store of its own for the former, or a data set's questions without a "
            "picture (scienceqa-text)"
        )
    rows, records = [], []
    pairs = _pairs(pictures, text)
    drawn = [_conditions(inputs, pair, place) for place, pair in enumerate(pairs)]
    for method in inputs.methods():
        for condition in ("text only", "multimodal", "difference"):
            cells = [_condition(pair, both, method, condition) for pair, (both, _) in zip(pairs, drawn, strict=True)]
            rows.append([method, condition, *(shown for shown, _ in cells)])
            records += [found for _, found in cells]
    columns = ["method", "condition", *(f"{one.dataset}, n={len(one.correct):,}" for one, _ in pairs)]
    others = [
        f"{one.dataset} (text only: {other.dataset}, n={len(other.correct):,})"
        for (one, other), (_, same) in zip(pairs, drawn, strict=True)
        if not same
    ]
    notes = [PAIRED, SEEDS] + ([f"Not paired, other samples: {', '.join(others)}."] if others else [])
    notes.append("question-kind looks at the question's words alone: what it reaches is not read from hidden states.")
    notes += unknown_notes(records)
    main = Table("table1", "AUC × 100 on text alone and with pictures", columns, rows, records, 2, notes)
    about = "Each condition has answers, labels and routers of its own, so its questions differ in difficulty too."
    return Study(
        "Table 1: text only against multimodal", inputs.described(), shows(inputs, about),
        [main, *published_tables("table1")],
    )  # fmt: skip


def _condition(
    pair: tuple[Evaluated, Evaluated], both: list[dict[str, Drawn]], method: str, condition: str
) -> tuple[str, Json]:
    """Return the cell and the record of a method in one condition; both come with pictures first."""
    pictures, text = (drawn.get(method, UNKNOWN) for drawn in both)
    if condition == "difference":
        value, owner = pictures.minus(text), next((one for one in pair if method not in one.scores), pair[0])
        return signed_hundred(value.known, value.ci95), record(owner, method, value, condition=condition)
    value, owner = (text, pair[1]) if condition == "text only" else (pictures, pair[0])
    key = condition.replace(" ", "_")
    paper = published.value("table1", pair[0].model, method, pair[0].dataset, condition=key)
    return cell(value, paper), record(owner, method, value, paper, condition=condition)


def _without_pictures(one: Evaluated) -> bool:
    return bool(one.report["provenance"].get("text_only")) or one.dataset.endswith(TEXT_SUBSET)


def _pairs(first: list[Evaluated], second: list[Evaluated]) -> list[tuple[Evaluated, Evaluated]]:
    by_key = {(one.model, one.dataset.removesuffix(TEXT_SUBSET)): one for one in second}
    pairs = [(one, by_key[one.model, one.dataset]) for one in first if (one.model, one.dataset) in by_key]
    if not pairs:
        here = ", ".join(sorted({one.dataset for one in first}))
        there = ", ".join(sorted({one.dataset for one in second}))
        raise InvalidInputError(f"the two sets of reports share no model and data set ({here} against {there})")
    return pairs


def _conditions(
    inputs: StudyInputs, pair: tuple[Evaluated, Evaluated], place: int
) -> tuple[list[dict[str, Drawn]], bool]:
    """Return the AUCs of two reports, from the same resamples where they have the same samples."""
    aligned, same = align_reports(pair[0], [pair[1]])
    seed = inputs.spec.seed + 2 * place
    seeds = [seed, seed if same else seed + 1]
    return [draw_aucs(one, inputs.spec.bootstrap, own) for one, own in zip(aligned, seeds, strict=True)], same


def table2(inputs: StudyInputs) -> Study:
    """Table 2: every method on every data set and backbone."""
    tables = grid(inputs, inputs.reports, "table2", "AUC × 100 of P(correct) by method and data set")
    about = "A higher AUC means that the method ranks questions that the small model answers rightly above others."
    return Study("Table 2: methods on data sets", inputs.described(), shows(inputs, about), tables)


def table4(inputs: StudyInputs) -> Study:
    """Table 4: routers fitted on the other data sets."""
    moved = [one for one in inputs.reports if one.report["provenance"].get("transferred")]
    if not moved:
        raise InvalidInputError(
            "table4 needs reports whose routers were fitted on other data sets "
            "(`relope fit … --also … --leave-out DATASET`, then `relope predict --transfer`); none of these were"
        )
    tables = grid(inputs, moved, "table4", "AUC × 100 on a data set that the router has not learned from")
    about = (
        "Each column's routers learned from the other data sets, with an equal cap of samples from each. Methods that "
        "train nothing are the same as in Table 2."
    )
    return Study("Table 4: leave one data set out", inputs.described(), shows(inputs, about), tables)


def table3(inputs: StudyInputs) -> Study:
    """Table 3: routers fitted on clean pictures, asked about perturbed ones."""
    clean = [one for one in inputs.reports if _perturbation(one) == "clean"]
    if not clean or len(clean) == len(inputs.reports):
        raise InvalidInputError(
            f"table3 needs one report on clean pictures and others on perturbed ones; got {len(clean)} clean of "
            f"{len(inputs.reports)}; extract with --perturb into stores of their own"
        )
    tables = [
        _robustness(inputs, one, frozen) for one in clean for frozen in (False, True) if _perturbed(inputs, one, frozen)
    ]
    about = (
        "Regenerated labels: the small model answers the perturbed pictures anew, which is what happens in use; its "
        "accuracy changes too. Frozen labels: the verdicts on the clean pictures, so only the scores change. "
        "ΔAUC is clean minus the mean of the perturbed ones; a small one says little for a router that is "
        "bad when clean."
    )
    return Study(
        "Table 3: robustness to perturbed pictures", inputs.described(), shows(inputs, about),
        [*tables, *published_tables("table3")],
    )  # fmt: skip


def _perturbation(one: Evaluated) -> str:
    return perturbation_name(one.report["provenance"].get("perturbation"))


def _perturbed(inputs: StudyInputs, clean: Evaluated, frozen: bool) -> list[Evaluated]:
    return [
        one
        for one in inputs.reports
        if (one.model, one.dataset) == (clean.model, clean.dataset)
        and _perturbation(one) != "clean"
        and bool(one.report["provenance"].get("labels_frozen")) is frozen
    ]


def _robustness(inputs: StudyInputs, clean: Evaluated, frozen: bool) -> Table:
    aligned, same = align_reports(clean, _perturbed(inputs, clean, frozen))
    drawn = [draw_aucs(one, inputs.spec.bootstrap, inputs.spec.seed) for one in aligned]
    names = [_perturbation(one) for one in aligned]
    rows, records = [], []
    for method in inputs.methods(aligned):
        row = [method]
        values = [found.get(method, UNKNOWN) for found in drawn]
        for one, name, value in zip(aligned, names, values, strict=True):
            paper = None if frozen else published.value("table3", one.model, method, name)
            row.append(cell(value, paper))
            records.append(record(one, method, value, paper, pictures=name, labels=_labels(frozen)))
        lost = values[0].minus(mean(values[1:]))
        row.append(signed_hundred(lost.known, lost.ci95))
        records.append(record(clean, method, lost, pictures="clean − mean", labels=_labels(frozen)))
        rows.append(row)
    accuracy = ", ".join(f"{name} {100 * one.correct.mean():.1f} %" for one, name in zip(aligned, names, strict=True))
    kind = _labels(frozen)
    notes = [f"The small model is right on: {accuracy}.", PAIRED if same else "Not paired: the samples differ.", SEEDS]
    notes += unknown_notes(records)
    title = f"{clean.model} on {clean.dataset}, n={len(clean.correct):,}, {kind} labels: AUC × 100"
    key = f"table3_{kind}" if len({one.dataset for one in inputs.reports}) == 1 else f"table3_{clean.dataset}_{kind}"
    return Table(key, title, ["method", *names, "ΔAUC"], rows, records, 1, notes)


def _labels(frozen: bool) -> str:
    return "frozen" if frozen else "regenerated"
