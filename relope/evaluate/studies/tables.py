"""Tables 2 and 4: AUC by method, data set and backbone."""

from collections.abc import Mapping, Sequence

from relope.errors import InvalidInputError
from relope.evaluate.numbers.draws import resample_aucs
from relope.evaluate.numbers.estimates import UNKNOWN, Estimate, mean_of
from relope.evaluate.numbers.inputs import BASELINE
from relope.evaluate.numbers.persample import StoredReport
from relope.evaluate.numbers.significance import compared
from relope.evaluate.pages.table import Cell, Column, Record, Row, Table, columns, hundred, row, signed_hundred
from relope.evaluate.pages.wording import DASH, p_number
from relope.evaluate.studies import published
from relope.evaluate.studies.cells import PAIRED, SEEDS, cell, published_table, record, shows, unknown_notes
from relope.evaluate.studies.inputs import Study, StudyInputs

Aucs = Mapping[tuple[str, str], Mapping[str, Estimate]]
"""(model, data set) → method → AUC."""


def table2(inputs: StudyInputs) -> Study:
    """Table 2: every method on every data set and backbone."""
    tables = _grid(inputs, inputs.reports, "table2", "AUC × 100 of P(correct) by method and data set")
    about = "A higher AUC means that the method ranks questions that the small model answers rightly above others."
    return Study("Table 2: methods on data sets", inputs.described(), shows(inputs, about), tables)


def table4(inputs: StudyInputs) -> Study:
    """Table 4: routers fitted on the other data sets."""
    moved = [report for report in inputs.reports if report.transferred]
    if not moved:
        raise InvalidInputError(
            "table4 is about routers that were fitted on other data sets; none of these reports has one",
            hint="make some with `relope fit … --also … --leave-out DATASET`, then `relope predict --transfer`",
        )
    tables = _grid(inputs, moved, "table4", "AUC × 100 on a data set that the router has not learned from")
    about = (
        "Each column's routers learned from the other data sets, with an equal cap of samples from each. Methods that "
        "train nothing are the same as in Table 2."
    )
    return Study("Table 4: leave one data set out", inputs.described(), shows(inputs, about), tables)


def _resampled(inputs: StudyInputs, reports: Sequence[StoredReport]) -> Aucs:
    """Return the AUCs of reports, one a model and data set.

    Raises:
        InvalidInputError: two reports are of the same model and data set.
    """
    known: dict[tuple[str, str], StoredReport] = {}
    for report in reports:
        other = known.setdefault((report.model, report.dataset), report)
        if other is not report:
            raise InvalidInputError(
                f"{other.path} and {report.path} are both about {report.model} on {report.dataset}; give one of them"
            )
    seed = inputs.request.seed
    return {
        key: resample_aucs(report, inputs.request.bootstrap, seed + number)
        for number, (key, report) in enumerate(known.items())
    }


def _grid(inputs: StudyInputs, reports: Sequence[StoredReport], name: str, title: str) -> list[Table]:
    """Return methods × data sets with averages, and each method's average difference to the baseline."""
    aucs = _resampled(inputs, reports)
    methods = inputs.methods(reports)
    models = list(dict.fromkeys(report.model for report in reports))
    datasets = list(dict.fromkeys(report.dataset for report in reports))
    rows: list[Row] = []
    records: list[Record] = []
    for model in models:
        mine = [report for report in reports if report.model == model]
        for method in methods:
            cells = {dataset: Cell(DASH) for dataset in datasets}
            for report in mine:
                auc = aucs[model, report.dataset].get(method, UNKNOWN)
                paper = published.value(name, model, method, report.dataset)
                cells[report.dataset] = cell(auc, paper)
                records.append(record(report, method, auc, paper))
            average = mean_of([aucs[model, report.dataset].get(method, UNKNOWN) for report in mine])
            rows.append(row(model, method, *cells.values(), hundred(average.known, average.ci95)))
    named = [
        *columns(["model", "method"], [], grouped=True),
        *(Column(dataset, f"n={_sizes(dataset, reports)}", "n") for dataset in datasets),
        Column("average", style="n"),
    ]
    main = Table(name, title, named, rows, records, notes=[PAIRED, SEEDS, *unknown_notes(records)])
    return [main, *_against_baseline(aucs, models, methods, name), published_table(name)]


def _sizes(dataset: str, reports: Sequence[StoredReport]) -> str:
    """Return the numbers of samples of a data set."""
    return "/".join(f"{n:,}" for n in sorted({report.report.n for report in reports if report.dataset == dataset}))


def _against_baseline(aucs: Aucs, models: Sequence[str], methods: Sequence[str], name: str) -> list[Table]:
    rows, records = [], []
    for model in models:
        mine = [by_method for (owner, _), by_method in aucs.items() if owner == model]
        full = [method for method in methods if all(method in by_method for by_method in mine)]
        if BASELINE not in full:
            continue
        gaps = compared(
            {
                method: mean_of([by_method[method].minus(by_method[BASELINE]) for by_method in mine]).test()
                for method in full
                if method != BASELINE
            }
        )
        for method, gap in gaps.items():
            difference = signed_hundred(gap.value, gap.ci95)
            rows.append(row(model, method, difference, p_number(gap.p_holm), gap.verdict))
            records.append(
                {
                    "model": model,
                    "method": method,
                    "difference": gap.value,
                    "ci95_low": gap.ci95[0],
                    "ci95_high": gap.ci95[1],
                    "p": gap.p,
                    "p_holm": gap.p_holm,
                    "verdict": gap.verdict,
                    "data_sets": len(mine),
                }
            )
    if not rows:
        return []
    title = f"Average difference to {BASELINE} over the data sets, AUC × 100"
    named = columns(["model", "method"], [f"difference to {BASELINE}", "p (Holm)", "verdict"], grouped=True)
    return [Table(f"{name}_differences", title, named, rows, records, notes=[PAIRED])]
