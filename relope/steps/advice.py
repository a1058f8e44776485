"""What `relope recommend` has found, and the page that tells it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relope.evaluate.numbers.candidates import Candidate, Kept, Weak
from relope.evaluate.numbers.estimates import Difference
from relope.evaluate.numbers.intervals import Interval
from relope.evaluate.pages.wording import DASH, between, between_percent, percent, share, signed
from relope.probes.protocol import Stacks, make, method_class
from relope.types import TextTable
from relope.words import counted

CONTROL = "question-confidence"
_SHOWN = 6


@dataclass(frozen=True)
class Point:
    """A point of the learning curve: samples learned from, and the AUC out of fold."""

    n: int
    auc: float | None
    ci95: Interval | None


@dataclass(frozen=True)
class Advice:
    """What is recommended and why.

    Attributes:
        pick: the method to deploy, if it is shown to rank better than chance; the best where none is.
        candidates: all of them, best first.
        before_answer: candidate → whether it decides before the small model answers.
        curve: AUC of the pick at growing numbers of samples; none of a pick that learns nothing.
        doubling: what the last doubling of the samples has brought; None where half of them are too few.
        too_few: sizes that the curve lacks, since nothing can be fitted on so few.
        weak: parts of the data on which the pick fails, worst first.
        small: the small model on all samples.
        n: samples.
        grader: that judged them.
        budget: share that is escalated.
    """

    pick: Candidate
    candidates: Sequence[Candidate]
    before_answer: Mapping[str, bool]
    curve: Sequence[Point]
    doubling: Difference | None
    weak: Sequence[Weak]
    small: Kept
    n: int
    grader: str
    budget: float
    too_few: Sequence[int] = ()


def table(advice: Advice) -> TextTable:
    """Return the candidates, best first, what is recommended with a star."""
    star = " *" if advice.pick.is_above_chance else ""
    rows = [
        [
            candidate.name + (star if candidate.name == advice.pick.name else ""),
            DASH
            if candidate.auc is None or candidate.ci95 is None
            else f"{candidate.auc:.3f} ({between(candidate.ci95)})",
            _right(candidate.kept),
            "before" if advice.before_answer[candidate.name] else "after",
        ]
        for candidate in advice.candidates
    ]
    title = f"Out of fold on {counted(advice.n, 'sample')} judged by {advice.grader}"
    return TextTable(title, ["router", "AUC (95 %)", "right on what it keeps", "decides"], rows)


def page(advice: Advice, commands: Sequence[str]) -> str:
    """Return the advice in sentences; no line is longer than 80 letters unless a name is."""
    if not advice.pick.is_above_chance:
        return "\n\n".join("\n".join(part) for part in (_none(advice), _labels(advice)))
    parts = [_deploy(advice), _labels(advice), _failing(advice), ["Next:", *(f"  {line}" for line in commands)]]
    return "\n\n".join("\n".join(part) for part in parts)


def _none(advice: Advice) -> list[str]:
    return [
        f"Deploy none: on {counted(advice.n, 'sample')} no router is shown to rank better than chance",
        f"  (an AUC of 0.5); {advice.pick.name} ranks highest. Label more, and ask again.",
    ]


def _deploy(advice: Advice) -> list[str]:
    pick, best = advice.pick, advice.candidates[0]
    early = advice.before_answer[pick.name]
    lines = [
        f"Deploy {pick.name}: it decides {'before' if early else 'after'} the small model answers.",
        f"  With {share(advice.budget)} escalated, what is kept is right in {_right(pick.kept)};",
        f"  with nothing escalated it is {percent(advice.small.accuracy)}. Intervals are 95 %.",
    ]
    if pick.name != best.name:
        lines += [
            f"  {best.name} ranks highest, by no difference that is shown,",
            f"  but {dearer(best.name, pick.name, advice.before_answer)}.",
        ]
    other = next(
        (
            candidate
            for candidate in advice.candidates
            if advice.before_answer[candidate.name] and candidate.name != pick.name
        ),
        None,
    )
    if not early and other is not None and other.to_best is not None:
        lost = signed(other.to_best.value)
        lines += [
            f"  {other.name} decides before the answer, which an escalated question then",
            f"  does not cost: {_right(other.kept)}, AUC {lost}.",
        ]
    control = next((candidate for candidate in advice.candidates if candidate.name == CONTROL), None)
    if control is not None and (control.to_best is None or control.to_best.verdict != "lower"):
        lines += [f"  The control {CONTROL}, which reads no state, ranks as well", "  as far as is shown."]
    return lines


def dearer(best: str, pick: str, before_answer: Mapping[str, bool]) -> str:
    """Return why the best costs more than what is picked."""
    probe = make(best, {})
    if before_answer[pick] and not before_answer[best]:
        return "the small model must answer first"
    if probe.traits.control:
        return "it is a control, which reads no state"
    if isinstance(probe, Stacks):
        return f"it is a stack: every query costs {len(probe.members_)} scores"
    if probe.traits.trains and not method_class(pick).traits.trains:
        return f"it must be fitted, which {pick} is not"
    return "it reads every token of the prompt"


def _labels(advice: Advice) -> list[str]:
    if not advice.curve:
        return ["More labels would bring nothing: it learns nothing."]
    few = " and ".join(f"{n:,}" for n in advice.too_few)
    missing = [f"  Of {few} nothing can be fitted: too few right or wrong answers."] if few else []
    if advice.doubling is None:
        learned = advice.curve[-1].n
        return [f"More labels: not known, there are too few to halve the {learned:,} learned from.", *missing]
    steps = [f"{point.auc:.3f} ({point.n:,})" for point in advice.curve if point.auc is not None]
    gap, (low, high) = advice.doubling, advice.doubling.ci95
    said = "  Another brings less as a rule." if low > 0 else "  No gain is shown."
    return [
        f"More labels: AUC by samples learned from {' → '.join(steps)}.",
        f"  The last doubling has brought {signed(gap.value)} ({signed(low)} to {signed(high)}).",
        said,
        *missing,
    ]


def _failing(advice: Advice) -> list[str]:
    if not advice.weak:
        return ["Where it fails: no part of the data is shown to be worse than the whole."]
    lines = ["Where it fails, worst first (right on what it keeps, below the whole):"]
    for weak in advice.weak[:_SHOWN]:
        lines += [f"  {weak.column} {weak.value}: {_right(weak.kept)}, keeps {weak.kept.n:,} of {weak.n:,}"]
    more = len(advice.weak) - _SHOWN
    return [*lines, f"  and {counted(more, 'other')}; --json has all"] if more > 0 else lines


def _right(kept: Kept) -> str:
    return DASH if kept.ci95 is None else f"{percent(kept.accuracy)} ({between_percent(kept.ci95)})"
