"""What a report comes to, for whoever has to decide: the same in the page's first screen and on the terminal."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from relope.evaluate.numbers.decision import AtBudget, Decision
from relope.evaluate.numbers.records import Report
from relope.evaluate.numbers.significance import JudgedDifference
from relope.evaluate.pages.table import Table, columns, row
from relope.evaluate.pages.wording import (
    DASH,
    NARROW,
    between_percent,
    between_signed,
    percent,
    points,
    price,
    share,
)

Answers = list[tuple[str, str]]
"""Questions with their answers."""


@dataclass(frozen=True)
class Tile:
    """A number of the first screen: what it is, its value, what stands below it, and what its colour says of it.

    ``good`` is shown to be better than escalating at random, and than the small model alone, by itself or since the
    large one is; ``bad`` is less than the small model reaches alone.
    """

    label: str
    value: str
    under: str
    tone: Literal["", "good", "bad"] = ""


def conclusion(report: Report) -> str:
    """Say in one sentence what to do."""
    decision, at = report.decision, share(report.budget)
    if decision is None:
        return ""
    worth, router, free = decision.large_over_small, decision.router, decision.free
    named = [method for method in (router, free) if method is not None and _higher(method.over_small)]
    if worth is not None and worth.verdict != "higher" and named:
        than = "right less often" if worth.verdict == "lower" else "not shown to be right more often"
        return (
            f"{report.large_name} is {than} than {report.small_name}, but at {at} {named[0].method} is shown to be "
            f"better than {report.small_name} alone."
        )
    if worth is not None and worth.verdict == "lower":
        return f"Do not escalate: {report.large_name} is right less often than {report.small_name}."
    if worth is not None and worth.verdict != "higher":
        return f"It is not shown that {report.large_name} is right more often than {report.small_name}."
    gap = decision.router_over_free
    if router is not None and _higher(router.over_random) and (gap is None or gap.verdict == "higher"):
        over = f", more than {free.method}, which costs no training" if free is not None else ""
        return f"Route with {router.method}: at {at} it is shown to be better than {_blind(report)}{over}."
    if free is not None and _higher(free.over_random):
        no = f"; {router.method}, the best that was trained, is not shown to be better" if router is not None else ""
        better = f"at {at} it is shown to be better than {_blind(report)}{no}"
        return f"Route with {free.method}, which needs no training: {better}."
    return f"No router here is shown to be better than {_blind(report)} at {at}."


def answers(report: Report) -> Answers:
    """Return what is asked first of a report, and what its numbers answer."""
    return [] if report.decision is None else list(_answers(report, report.decision))


def _answers(report: Report, decision: Decision) -> Iterator[tuple[str, str]]:
    at = share(report.budget)
    yield "Is the large model worth it?", _worth(report, decision)
    yield f"Best router at {at}", _reached(report, decision, decision.router, "no method that was trained is scored")
    yield (
        f"Best free one at {at}",
        _reached(report, decision, decision.free, "none that needs no training is scored (logprob, for one)"),
    )
    if decision.router_over_free is not None:
        yield "Does training pay?", f"{_over(decision)} {_gap(decision.router_over_free)}"
    if decision.control is not None and decision.method_over_control is not None:
        yield "Does it beat a control?", _against_control(report, decision.control, decision.method_over_control)
    if picked := _picked(report):
        yield "How were they picked?", picked
    if when := _when(decision):
        yield "When does it decide?", when
    yield "What does it cost?", _cost(report, decision)


def _worth(report: Report, decision: Decision) -> str:
    gap, hybrid = decision.large_over_small, report.hybrid
    if gap is None:
        return "not known: the large model was not run on these questions"
    said = {"higher": "by accuracy, yes", "lower": "no"}.get(gap.verdict, "not shown")
    large, small = percent(hybrid.large_accuracy), percent(hybrid.small_accuracy)
    return f"{said}: {report.large_name} is right on {large}, {report.small_name} on {small}: {_gap(gap)}"


def _reached(report: Report, decision: Decision, method: AtBudget | None, none: str) -> str:
    if method is None:
        return none
    text = f"{method.method}: {_what(report)} {percent(method.accuracy)}"
    if method.over_random is not None:
        text += f", over {_blind(report)} {_gap(method.over_random)}"
    if method.over_small is not None and not _higher(decision.large_over_small):
        text += f"; over {report.small_name} alone {_gap(method.over_small)}"
    return text


def _against_control(report: Report, control: AtBudget, gap: JudgedDifference) -> str:
    """Set the best method against the best control at the budget."""
    method = report.decision and (report.decision.router or report.decision.free)
    name = "" if not method else method.method
    reached = f"{control.method}, which looks at no hidden state: {_what(report)} {percent(control.accuracy)}"
    return f"{reached}; {name} over {control.method} {_gap(gap)}"


def _picked(report: Report) -> str:
    """Say of how many methods the best are the best, and that no interval knows of it."""
    fair = [method for method in report.methods if not method.is_control and not method.seen]
    trained = sum(method.needs_training for method in fair)
    free = sum(not method.needs_training and not method.needs for method in fair)
    if max(trained, free) < 2:
        return ""
    free_ones = f"of {free} free {'one' if free == 1 else 'ones'}"
    of = " and ".join([f"of {trained} trained"] * (trained > 0) + [free_ones] * (free > 0))
    return (
        f"by accuracy at {share(report.budget)} {of}, on the very samples that these numbers come from, which flatters "
        "them; no interval knows of it"
    )


def _when(decision: Decision) -> str:
    known = {
        method.method: when
        for method in (decision.router, decision.free)
        if method is not None and (when := decides(method))
    }
    if len(set(known.values())) < len(known):
        return f"both decide {next(iter(known.values()))}"
    return ", ".join(f"{name} {when}" for name, when in known.items())


def decides(method: AtBudget) -> str:
    """Say when a method decides, "" where nobody knows."""
    if method.decides_before_answer is None:
        return ""
    return f"{'before' if method.decides_before_answer else 'after'} the small model's answer"


def _cost(report: Report, decision: Decision) -> str:
    if decision.dollars_small is None or decision.dollars_large is None:
        return "not known: prices of both models are needed" if report.has_system else "not known"
    reached = [method for method in (decision.router, decision.free) if method is not None]
    parts = [f"{method.method} at {share(report.budget)} {price(method.dollars)}" for method in reached]
    alone = f"{report.small_name} alone {price(decision.dollars_small)}, {report.large_name} alone"
    return f"{', '.join([*parts, alone])} {price(decision.dollars_large)} per 1,000 queries"


def _gap(gap: JudgedDifference) -> str:
    """Write a difference of shares with its interval and verdict."""
    bounds = between_signed([100 * bound for bound in gap.ci95], 1)
    return f"{points(gap.value)} (95 % interval {bounds}): {gap.verdict}"


def _higher(gap: JudgedDifference | None) -> bool:
    return gap is not None and gap.verdict == "higher"


def _blind(report: Report) -> str:
    return "escalating at random"


def _what(report: Report) -> str:
    return "system right" if report.has_system else "right of the kept"


def tiles(report: Report) -> list[Tile]:
    """Return the numbers that say what happened."""
    hybrid, decision = report.hybrid, report.decision
    if decision is None:
        return []
    small = Tile(
        f"{report.small_name} alone, right", percent(hybrid.small_accuracy), _interval(hybrid.small_accuracy_ci95)
    )
    large = Tile("large model alone, right", DASH, "not run, and not guessed")
    if decision.large_over_small is not None:
        under = f"{_interval(hybrid.large_accuracy_ci95)}\n{_short(decision.large_over_small)} than {report.small_name}"
        large = Tile(f"{report.large_name} alone, right", percent(hybrid.large_accuracy), under)
    at = share(report.budget)
    router, free = decision.router, decision.free
    return [
        small,
        large,
        _method_tile(f"best router at {at} escalated", report, router),
        _method_tile(f"best free one at {at} escalated", report, free),
    ]


def _method_tile(label: str, report: Report, method: AtBudget | None) -> Tile:
    if method is None:
        return Tile(label, DASH, "none is scored")
    tone = _tone(report, method)
    lines = [_interval(method.ci95), _over_random(report, method)]
    if method.over_small is not None and not _pays(report):
        lines.append(f"over {report.small_name} alone {_short(method.over_small)}")
    lines.append(f"decides {decides(method)}" if decides(method) else "")
    return Tile(f"{label}: {method.method}", percent(method.accuracy), "\n".join(filter(None, lines)), tone)


def _tone(report: Report, method: AtBudget) -> Literal["", "good", "bad"]:
    """Return what a method's number is: nothing is good that the small model alone exceeds, or that is not shown."""
    if report.has_system and method.accuracy is not None and method.accuracy < report.hybrid.small_accuracy:
        return "bad"
    gains = not report.has_system or _pays(report) or _higher(method.over_small)
    return "good" if gains and _higher(method.over_random) else ""


def _pays(report: Report) -> bool:
    """Return whether the large model is shown to be right more often, so that whoever asks it more gains."""
    return report.decision is not None and _higher(report.decision.large_over_small)


def _over_random(report: Report, method: AtBudget) -> str:
    random = report.hybrid.random_accuracy_at.get(report.at_budget)
    text = f"random {percent(random)}" if random is not None else ""
    return text if method.over_random is None else f"{text}, lead {_short(method.over_random)}"


def _over(decision: Decision) -> str:
    """Name the two methods whose difference it is: the best router and the best free one."""
    router, free = decision.router, decision.free
    return f"{router.method} over {free.method}" if router is not None and free is not None else "router over free one"


def _short(gap: JudgedDifference) -> str:
    bounds = between_signed([100 * bound for bound in gap.ci95], 1)
    return f"{points(gap.value)} ({bounds}), {gap.verdict}"


def _interval(bounds: tuple[float, float] | None) -> str:
    return f"95{NARROW}% interval {between_percent(bounds)}"


def summary_table(report: Report) -> Table | None:
    """Return what a terminal shows above the methods; None for an older report."""
    given = answers(report)
    if not given:
        return None
    rows = [row(question, answer) for question, answer in given]
    return Table("summary", conclusion(report), columns(["asked", "answer"], []), rows)
