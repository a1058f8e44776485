"""Table 1: the same methods on text alone and on text with images."""

from collections.abc import Mapping, Sequence

from relope.errors import InvalidInputError
from relope.evaluate.numbers.draws import align_reports, resample_aucs
from relope.evaluate.numbers.estimates import UNKNOWN, Estimate
from relope.evaluate.numbers.persample import StoredReport
from relope.evaluate.pages.table import Cell, Column, Record, Table, columns, row, signed_hundred
from relope.evaluate.studies import published
from relope.evaluate.studies.cells import PAIRED, SEEDS, cell, published_table, record, shows, unknown_notes
from relope.evaluate.studies.inputs import Study, StudyInputs

TEXT_SUBSET = "-text"
"""Ends the name of the part of a data set that has no images; the paper sets it against the rest (ScienceQA)."""

Pair = tuple[StoredReport, StoredReport]
"""A report with images, and the one of the same model on text alone."""


def table1(inputs: StudyInputs) -> Study:
    """Table 1: the same methods on text alone and on text with images."""
    text = [report for report in inputs.reports if _without_images(report)]
    images = [report for report in inputs.reports if not _without_images(report)]
    if not text or not images:
        raise InvalidInputError(
            f"table1 compares reports of text-only and multimodal stores; got {len(text)} and {len(images)}",
            hint="extract with --text-only into a store of its own, or a data set's questions without an image "
            "(scienceqa-text)",
        )
    pairs = _pairs(images, text)
    resampled = [_resampled(inputs, pair, number) for number, pair in enumerate(pairs)]
    rows, records = [], []
    for method in inputs.methods():
        for condition in ("text only", "multimodal", "difference"):
            entries = [_entry(pair, aucs, method, condition) for pair, (aucs, _) in zip(pairs, resampled, strict=True)]
            rows.append(row(method, condition, *(shown for shown, _ in entries)))
            records += [number for _, number in entries]
    named = columns(["method", "condition"], [])
    named += [Column(report.dataset, f"n={report.report.n:,}", "n") for report, _ in pairs]
    others = [
        f"{report.dataset} (text only: {other.dataset}, n={other.report.n:,})"
        for (report, other), (_, same) in zip(pairs, resampled, strict=True)
        if not same
    ]
    notes = [PAIRED, SEEDS] + ([f"Not paired, other samples: {', '.join(others)}."] if others else [])
    notes.append("question-kind looks at the question's words alone: what it reaches is not read from hidden states.")
    notes += unknown_notes(records)
    main = Table("table1", "AUC × 100 on text alone and with images", named, rows, records, notes)
    about = "Each condition has answers, labels and routers of its own, so its questions differ in difficulty too."
    tables = [main, published_table("table1")]
    return Study("Table 1: text only against multimodal", inputs.described(), shows(inputs, about), tables)


def _entry(pair: Pair, aucs: Sequence[Mapping[str, Estimate]], method: str, condition: str) -> tuple[Cell, Record]:
    """Return the cell and the record of a method in one condition."""
    images, text = (by_method.get(method, UNKNOWN) for by_method in aucs)
    if condition == "difference":
        gap, owner = images.minus(text), next((report for report in pair if method not in report.scores), pair[0])
        return signed_hundred(gap.known, gap.ci95), record(owner, method, gap, condition=condition)
    auc, owner = (text, pair[1]) if condition == "text only" else (images, pair[0])
    key = condition.replace(" ", "_")
    paper = published.value("table1", pair[0].model, method, pair[0].dataset, condition=key)
    return cell(auc, paper), record(owner, method, auc, paper, condition=condition)


def _without_images(report: StoredReport) -> bool:
    return report.text_only or report.dataset.endswith(TEXT_SUBSET)


def _pairs(images: Sequence[StoredReport], text: Sequence[StoredReport]) -> list[Pair]:
    by_key = {(report.model, report.dataset.removesuffix(TEXT_SUBSET)): report for report in text}
    keys = [(report.model, report.dataset) for report in images]
    pairs = [(report, by_key[key]) for report, key in zip(images, keys, strict=True) if key in by_key]
    if not pairs:
        with_images, without = (", ".join(sorted({report.dataset for report in side})) for side in (images, text))
        raise InvalidInputError(
            f"the two sets of reports share no model and data set ({with_images} against {without})"
        )
    return pairs


def _resampled(inputs: StudyInputs, pair: Pair, number: int) -> tuple[list[dict[str, Estimate]], bool]:
    """Return the AUCs of two reports, from the same resamples where they have the same samples."""
    aligned, same = align_reports(pair[0], [pair[1]])
    seed = inputs.request.seed + 2 * number
    seeds = [seed, seed if same else seed + 1]
    n = inputs.request.bootstrap
    return [resample_aucs(report, n, own) for report, own in zip(aligned, seeds, strict=True)], same
