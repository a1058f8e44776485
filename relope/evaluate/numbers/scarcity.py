"""Too few of a class to say much: what must be told before numbers that rest on them."""

from relope.evaluate.numbers.estimates import FEWEST, Population
from relope.evaluate.numbers.metrics import Bools, Groups
from relope.types import ResultWarning

ENOUGH = 30
"""Groups of the rarer class from which there is nothing to warn of."""

JUDGED = "too few to tell methods apart, and every interval is wide"
LEARNED = "too few to learn from what tells them from the others"


def scarcity(correct: Bools, groups: Groups, where: str = "", so: str = JUDGED) -> tuple[ResultWarning, ...]:
    """Return the warning that labels with few of a class call for, none where there are enough.

    Args:
        correct: ``[N]`` labels.
        groups: ``[N]``; samples that share an image count as one.
        where: put before the sentence, e.g. ``tiny-vl on chartqa``.
        so: what follows from too few.
    """
    n, n_right = len(correct), int(correct.sum())
    lead = f"{where}: " if where else ""
    if not n:
        return ()
    if n_right in (0, n):
        kind = "right" if n_right else "wrong"
        return (ResultWarning("unsure", f"{lead}all {n:,} answers are {kind}: {so}, and there is no AUC"),)
    population = Population.of(groups, 0)
    held = {"right": population.n_holding(correct), "wrong": population.n_holding(~correct)}
    kind = min(held, key=lambda side: held[side])
    if held[kind] >= ENOUGH:
        return ()
    rare = n_right if kind == "right" else n - n_right
    spread = f", in {held[kind]:,} image group{'s' * (held[kind] != 1)}" if held[kind] < rare else ""
    counted = f"{lead}only {rare:,} of {n:,} answers {'is' if rare == 1 else 'are'} {kind}{spread}"
    if held[kind] < FEWEST:
        return (ResultWarning("unsure", f"{counted}: {so} ({FEWEST} is the least)"),)
    return (ResultWarning("note", f"{counted}: intervals are wide, and only large differences can be shown"),)


def held_out_scarcity(n_minority: int, where: str) -> tuple[ResultWarning, ...]:
    """Return the warning that a sweep calls for whose runs held out few image groups with the rarer class."""
    if n_minority >= FEWEST:
        return ()
    groups = f"{n_minority:,} image group{'s' * (n_minority != 1)}"
    said = f"{where}: a run held out only {groups} with the rarer of right and wrong answers"
    return (ResultWarning("unsure", f"{said}: too few to choose a setting by ({FEWEST} is the least)"),)
