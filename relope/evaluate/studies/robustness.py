"""Table 3: routers fitted on clean images, asked about perturbed ones."""

from relope.errors import InvalidInputError
from relope.evaluate.numbers.draws import align_reports, resample_aucs
from relope.evaluate.numbers.estimates import UNKNOWN, mean_of
from relope.evaluate.numbers.persample import StoredReport
from relope.evaluate.pages.table import Table, columns, row, signed_hundred
from relope.evaluate.studies import published
from relope.evaluate.studies.cells import PAIRED, SEEDS, cell, published_table, record, shows, unknown_notes
from relope.evaluate.studies.inputs import Study, StudyInputs


def table3(inputs: StudyInputs) -> Study:
    """Table 3: routers fitted on clean images, asked about perturbed ones."""
    clean = [report for report in inputs.reports if report.perturbation == "clean"]
    if not clean or len(clean) == len(inputs.reports):
        raise InvalidInputError(
            f"table3 needs one report on clean images and others on perturbed ones; got {len(clean)} clean of "
            f"{len(inputs.reports)}",
            hint="extract with --perturb into stores of their own",
        )
    tables = [
        _robustness(inputs, report, perturbed, frozen)
        for report in clean
        for frozen in (False, True)
        if (perturbed := _perturbed(inputs, report, frozen))
    ]
    about = (
        "Regenerated labels: the small model answers the perturbed images anew, which is what happens in use; its "
        "accuracy changes too. Frozen labels: the grades on the clean images, so only the scores change. "
        "ΔAUC is clean minus the mean of the perturbed ones; a small one says little for a router that is "
        "bad when clean."
    )
    tables.append(published_table("table3"))
    return Study("Table 3: robustness to perturbed images", inputs.described(), shows(inputs, about), tables)


def _perturbed(inputs: StudyInputs, clean: StoredReport, frozen: bool) -> list[StoredReport]:
    return [
        report
        for report in inputs.reports
        if (report.model, report.dataset) == (clean.model, clean.dataset)
        and report.perturbation != "clean"
        and report.labels_frozen is frozen
    ]


def _robustness(inputs: StudyInputs, clean: StoredReport, perturbed: list[StoredReport], frozen: bool) -> Table:
    aligned, same = align_reports(clean, perturbed)
    resampled = [resample_aucs(report, inputs.request.bootstrap, inputs.request.seed) for report in aligned]
    names, labels = [report.perturbation for report in aligned], "frozen" if frozen else "regenerated"
    rows, records = [], []
    for method in inputs.methods(aligned):
        aucs, cells = [by_method.get(method, UNKNOWN) for by_method in resampled], []
        for report, name, auc in zip(aligned, names, aucs, strict=True):
            paper = None if frozen else published.value("table3", report.model, method, name)
            cells.append(cell(auc, paper))
            records.append(record(report, method, auc, paper, images=name, labels=labels))
        lost = aucs[0].minus(mean_of(aucs[1:]))
        records.append(record(clean, method, lost, images="clean − mean", labels=labels))
        rows.append(row(method, *cells, signed_hundred(lost.known, lost.ci95)))
    right = ", ".join(f"{name} {100 * rep.correct.mean():.1f} %" for rep, name in zip(aligned, names, strict=True))
    notes = [f"The small model is right on: {right}.", PAIRED if same else "Not paired: the samples differ.", SEEDS]
    title = f"{clean.model} on {clean.dataset}, n={clean.report.n:,}, {labels} labels: AUC × 100"
    several = len({report.dataset for report in inputs.reports}) > 1
    key = f"table3_{clean.dataset}_{labels}" if several else f"table3_{labels}"
    named = columns(["method"], [*names, "ΔAUC"])
    return Table(key, title, named, rows, records, [*notes, *unknown_notes(records)])
