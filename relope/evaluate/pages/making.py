"""How the numbers were made, for whoever has to make them again: samples, layers, graders, seeds, commands, dates."""

from collections.abc import Iterator

from relope.evaluate.numbers.records import MethodRow, Report
from relope.evaluate.pages import wording
from relope.evaluate.pages.table import Cell, Column, Row, Table, row
from relope.evaluate.pages.wording import DASH

Facts = list[tuple[str, str]]
"""Names with what is told of them."""


def facts(report: Report) -> Facts:
    """Return what stands on the first screen: samples, grader and date, and how the methods named there were fitted."""
    return list(_facts(report))


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    told = report.provenance
    by = f", by {told['grader']}" if told.get("grader") else ""
    right = f"{report.n_correct:,} answered rightly{by}"
    yield "judged on", f"n = {report.n:,} samples in {report.n_groups:,} image groups, {right}"
    named = [] if report.decision is None else [report.decision.router, report.decision.free]
    for each in named:
        if each is not None:
            yield each.method, fitted(report.row(each.method))
    if told.get("date"):
        yield "made", " by ".join(filter(None, [str(told["date"]), str(told.get("command", ""))]))


def fitted(method: MethodRow) -> str:
    """Say what a method learned from, at which layer and with which seeds."""
    layer = "reads no block's states" if method.layer is None else f"layer {method.layer}"
    if not method.needs_training:
        return f"nothing is trained; {layer}"
    # Of scores that do not say what was learned from, nobody knows the layer either.
    known = [] if method.n_train is None and method.layer is None else [layer]
    return "; ".join([_learned(method), *known, _seeds(method)])


def _learned(method: MethodRow) -> str:
    if method.n_train is None:
        return "learned from samples that an older relope did not count"
    of = f" of {', '.join(method.learned_from)}" if method.learned_from else ""
    by = f", by {method.grader}" if method.grader else ""
    return f"n_train = {method.n_train:,}{of}{by}"


def _seeds(method: MethodRow) -> str:
    seeds = ", ".join(map(str, method.seeds))
    return f"seed {seeds}" if len(method.seeds) == 1 else f"seeds {seeds}"


def making_table(report: Report) -> Table:
    """Return one row a method: what it learned from, how it was set, and when."""
    columns = [
        Column("method", style="label"),
        Column("n_train", style="n"),
        Column("splits", style="apart"),
        Column("grader"),
        Column("layer", style="n"),
        Column("seeds", style="apart"),
        Column("settings"),
        Column("made"),
    ]
    return Table(
        "making", "What each method learned from, and how it was set.", columns, list(map(_row, report.methods))
    )


def _row(method: MethodRow) -> Row:
    trained = method.needs_training
    return row(
        method.method,
        "none" if not trained else DASH if method.n_train is None else f"{method.n_train:,}",
        ", ".join(method.learned_from) if trained and method.learned_from else DASH,
        method.grader or DASH,
        DASH if method.layer is None else str(method.layer),
        ", ".join(map(str, method.seeds)) if trained else DASH,
        Cell(note=wording.plain(dict(method.settings)) if method.settings else DASH),
        Cell(note=", ".join(dict.fromkeys(date[:10] for date in method.dates)) or DASH),
    )


def commands(report: Report) -> Facts:
    """Return the command lines that made each method's scores, and the report."""
    given = [(method.method, "\n".join(method.commands)) for method in report.methods if method.commands]
    command = str(report.provenance.get("command", ""))
    return [*given, ("this report", command)] if command else given
