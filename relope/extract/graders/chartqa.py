"""ChartQA's relaxed accuracy: numbers within 5 %, years exact, lists as sets, else equal text.

The whole response is compared, then what its last "the answer is" is followed by.
Commas, currency, percent and a trailing full stop do not count. "14 %" is read as 14 or 0.14 and
"5 million" as 5 or 5,000,000, unless both sides are written that way.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from relope.extract.graders.exact import fold
from relope.extract.grading import answer_text
from relope.extract.grading.grader import answer, bounded, is_chain
from relope.types import Grade

VERSION = "4"
TOLERANCE = 0.05
YEARS = range(1500, 2101)

_NUMBER = re.compile(
    r"(?:about|around|approximately|approx\.?|roughly|nearly|almost|circa|ca\.)? ?[~≈]? ?"
    r"(?P<sign>[-+]?) ?(?:us|usd|eur|gbp)? ?[$€£¥₹]? ?(?P<inner>[-+]?) ?"
    r"(?P<digits>\d{1,3}(?:[, ]\d{3})+(?:\.\d*)?|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d*)?|\d+\.?\d*|\.\d+)"
    r"(?P<power>e[-+]?\d{1,3}| ?[x*×] ?10\^\{?-?\d{1,2}\}?)? ?(?P<after>[$€£¥₹])? ?"
    r"(?P<scale>hundred|thousand|million|billion|trillion|mln|mn|bn|tn|mil|k|m|b)?(?![a-z])\.? ?"
    r"(?P<percent>%|percent|per cent|percentage points?|pct)? ?(?:us )?(?:dollars?|euros?|pounds?|usd|eur|gbp)?"
)
_SCALES = {
    "hundred": 1e2,
    **dict.fromkeys(("thousand", "k"), 1e3),
    **dict.fromkeys(("million", "mln", "mn", "mil", "m"), 1e6),
    **dict.fromkeys(("billion", "bn", "b"), 1e9),
    **dict.fromkeys(("trillion", "tn"), 1e12),
}
_PREFIX = re.compile(r"^(?:the )?(?:(?:final|correct) )?answer ?(?:is|:|=) ?:? ?", re.IGNORECASE)
_BULLET = re.compile(r"(?:[-•]|\d{1,2}[.)]) ")
_MAX_ITEMS = 100


@dataclass(frozen=True)
class Number:
    """A number as it was written: its value, and what percent sign or magnitude word would make of it."""

    value: float
    scale: float = 1.0
    percent: bool = False
    year: bool = False


def grade(response: str, answers: Sequence[str], choices: Sequence[str] = (), finish_reason: str = "") -> Grade:
    """Judge an answer; several gold answers are a list, of which every member must be named."""
    text = answer(response, finish_reason)
    whole, tail = normalised(text), normalised(answer_text.stated(text))
    said = tail or whole
    right = any(_right(candidate, answers) for candidate in {whole, said})
    said = said if tail or right or answer_text.boxed(text) or not is_chain(text, finish_reason) else ""
    return Grade(right, said, "parsed" if said else "unparsed")


def _right(said: str, answers: Sequence[str]) -> bool:
    if not said or not answers:
        return False
    if len(answers) > 1:
        return _same_items(_items(said), list(answers))
    gold = normalised(answers[0])
    return _equal(said, gold) or (number(gold) is None and _same_items(_items(said), _items(answers[0])))


def normalised(text: str) -> str:
    """Return an answer without markup, "the answer is" and outer punctuation; several lines become a list."""
    text = answer_text.untagged(bounded(text))
    if boxes := answer_text.boxed(text):
        text = boxes[0]
    text = answer_text.plain(text.replace(r"\%", "%").replace(r"\$", "").replace("–", "-"))
    text = _PREFIX.sub("", text).strip(" \n\"'`“”‘’").rstrip(".!;: ")
    lines = _PREFIX.sub("", text).strip(" \"'“”‘’").splitlines()
    lines = [_BULLET.sub("", line.strip(), count=1) for line in lines] if len(lines) > 1 else lines
    return "; ".join(" ".join(line.split()) for line in lines)


def _equal(said: str, gold: str) -> bool:
    if fold(gold) and fold(said) == fold(gold):
        return True
    mine, right = number(said), number(gold)
    if mine is None or right is None:
        return False
    if mine.year and right.year:
        return mine.value == right.value
    return any(_close(value, aim) for value, aim in _readings(mine, right))


def _close(value: float, aim: float) -> bool:
    return abs(value - aim) <= (TOLERANCE + 1e-9) * abs(aim)


def _readings(said: Number, gold: Number) -> list[tuple[float, float]]:
    """Return the pairs that are compared; a sign that both sides carry is not read two ways."""
    percents = [(False, False)] if said.percent == gold.percent else [(said.percent, gold.percent), (False, False)]
    both = said.scale != 1 and gold.scale != 1
    scales = [(said.scale, gold.scale)] if both else [(said.scale, gold.scale), (1.0, 1.0)]
    return [
        (said.value * a / (100 if p else 1), gold.value * b / (100 if q else 1)) for p, q in percents for a, b in scales
    ]


def number(text: str) -> Number | None:
    """Return the number that a normalised text is, or None."""
    match = _NUMBER.fullmatch(text.strip().casefold()) if len(text) < 80 else None
    if match is None:
        return None
    digits = re.sub(r"[, ]", "", match["digits"])
    power = re.sub(r"[ {}]", "", match["power"] or "")
    value = float(f"{digits}e{re.split('[e^]', power)[1]}" if power else digits)
    if not math.isfinite(value):
        return None
    value = -value if (match["sign"] + match["inner"]).count("-") == 1 else value
    year = bool(re.fullmatch(r"\d{4}", text.strip())) and int(digits) in YEARS
    return Number(value, _SCALES.get(match["scale"] or "", 1.0), bool(match["percent"]), year)


def _items(text: str) -> list[str]:
    """Return the members of a list that was written out."""
    inside = text.strip()
    if inside[:1] in "[({" and inside[-1:] in "])}":
        inside = inside[1:-1]
    for pattern in (r" ?\n ?| ?; ?|,(?: and)? | and | & ", r","):
        parts = [part.strip(" \"'") for part in re.split(pattern, inside) if part.strip(" \"'")]
        if len(parts) > 1:
            return parts[:_MAX_ITEMS]
    return [inside]


def _same_items(said: list[str], gold: list[str]) -> bool:
    """Return whether two sets can be paired off, each item with an equal one."""
    said, gold = ([item for item in dict.fromkeys(map(normalised, items)) if item] for items in (said, gold))
    if len(said) != len(gold) or not gold:
        return False
    fits = [[index for index, member in enumerate(said) if _equal(member, item)] for item in gold]
    taken: dict[int, int] = {}

    def paired(item: int, tried: set[int]) -> bool:
        for index in fits[item]:
            if index not in tried:
                tried.add(index)
                if index not in taken or paired(taken[index], tried):
                    taken[index] = item
                    return True
        return False

    return all(paired(item, set()) for item in range(len(gold)))
