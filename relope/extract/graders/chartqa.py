"""ChartQA's relaxed accuracy: numbers within 5 %, years exact, lists as sets, else equal text.

Commas, currency, percent and a trailing full stop do not count. "14 %" is read as 14 or 0.14 and
"5 million" as 5 or 5,000,000, unless both sides are written that way.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from relope.extract.graders import _text, bounded
from relope.extract.graders.exact import fold
from relope.types import Grade

VERSION = "1"
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
_SCALES = {"hundred": 1e2, "thousand": 1e3, "k": 1e3, "million": 1e6, "mln": 1e6, "mn": 1e6, "mil": 1e6, "m": 1e6,
           "billion": 1e9, "bn": 1e9, "b": 1e9, "trillion": 1e12, "tn": 1e12}  # fmt: skip
_PREFIX = re.compile(r"^(?:the )?(?:(?:final|correct) )?answer ?(?:is|:|=) ?:? ?", re.IGNORECASE)
_MAX_ITEMS = 100


@dataclass(frozen=True)
class Number:
    """A number as it was written: its value, and what percent sign or magnitude word would make of it."""

    value: float
    scale: float = 1.0
    percent: bool = False
    year: bool = False


def grade(response: str, answers: Sequence[str], choices: Sequence[str] = ()) -> Grade:
    """Judge an answer; several gold answers are a list, of which every member must be named."""
    said = normalised(response)
    if not said:
        return Grade(False, "", "unparsed")
    gold = list(answers) if len(answers) > 1 else _items(answers[0]) if answers else []
    whole = len(answers) == 1 and _equal(said, normalised(answers[0]))
    return Grade(whole or _same_items(_items(said), gold), said, "parsed")


def normalised(text: str) -> str:
    """Return an answer without markup, "the answer is" and outer punctuation."""
    text = bounded(text)
    if found := _text.boxed(text):
        text = found[0]
    text = _text.plain(text.replace(r"\%", "%").replace(r"\$", "").replace("−", "-").replace("–", "-"))
    text = _PREFIX.sub("", text).strip(" \n\"'`“”‘’").rstrip(".!;: ")
    return " ".join(_PREFIX.sub("", text).strip(" \"'“”‘’").split())


def _equal(said: str, gold: str) -> bool:
    one, other = number(said), number(gold)
    if one is None or other is None:
        return bool(fold(gold)) and fold(said) == fold(gold)
    if one.year and other.year:
        return one.value == other.value
    return any(_close(value, aim) for value, aim in _readings(one, other))


def _close(value: float, aim: float) -> bool:
    return abs(value - aim) <= (TOLERANCE + 1e-9) * abs(aim)


def _readings(one: Number, other: Number) -> list[tuple[float, float]]:
    """Return the pairs that are compared; a sign that both sides carry is not read two ways."""
    percents = [(False, False)] if one.percent == other.percent else [(one.percent, other.percent), (False, False)]
    both = one.scale != 1 and other.scale != 1
    scales = [(one.scale, other.scale)] if both else [(one.scale, other.scale), (1.0, 1.0)]
    return [
        (one.value * a / (100 if p else 1), other.value * b / (100 if q else 1)) for p, q in percents for a, b in scales
    ]


def number(text: str) -> Number | None:
    """Return the number that a normalised text is, or None."""
    match = _NUMBER.fullmatch(text.strip().casefold()) if len(text) < 80 else None
    if match is None:
        return None
    digits = re.sub(r"[, ]", "", match["digits"])
    power = re.sub(r"[ {}]", "", match["power"] or "")
    value = float(digits) * (10.0 ** int(re.split(r"e|\^", power)[1]) if power else 1.0)
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
    if len(said) != len(gold) or not gold:
        return False
    rest = list(said)
    for item in gold:
        match = next((other for other in rest if _equal(normalised(other), normalised(item))), None)
        if match is None:
            return False
        rest.remove(match)
    return True
