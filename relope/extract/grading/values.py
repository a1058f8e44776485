r"""Whether two short mathematical answers are the same value.

A value is a number or an expression (`arithmetic`), a tuple or an interval (ordered, its brackets
matter), or a set (``\{1, 2\}``, ``1, 2``, ``1 or 2``: order does not matter). Anything else is
compared as text. ``x=``, units, degrees, percent and currency signs do not count.
"""

import re
from dataclasses import dataclass, replace

from relope.extract.grading.arithmetic import numbers
from relope.extract.grading.latex import MAX_CHARACTERS, clean, squeezed

MAX_MEMBERS = 50
_SPACED = re.compile(r"-?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_SLASHED = re.compile(r"(-?)(\d+) (\d+) ?/ ?(\d+)")
_ASSIGNED = re.compile(r"^[^=<>!]{0,200}[^=<>!]?=(?!=)")
_UNIT = re.compile(
    r"(?:(?<=[\d})!])|(?<=\\pi)) ?(?: |(?=[a-zA-Z]{2}))"
    r"((?:(?:square|cubic|sq\.?|cu\.?) )?(?:μ ?)?[A-Za-zΩ]{1,20}(?: ?\^ ?\{? ?-?\d ?\}?)?"
    r"(?: ?(?:/|per ) ?[A-Za-z]{1,12}(?: ?\^ ?\{? ?\d ?\}?)?)?(?: [A-Za-z]{2,20}){0,3})$"
)
_SCALE = re.compile(r"(?<=\d) ?(thousand|million|billion|trillion)\b", re.IGNORECASE)
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_POWER = r"(?: ?\^ ?\{? ?-?\d ?\}?)?"
_ONE_LETTER = re.compile(
    rf"(?<=[\d}})!]) [mgshlLAVWNJKCFTΩ]{_POWER}(?:(?: ?[/*] ?| )(?:s|h|m|g|kg|cm|min|mol|L|K){_POWER}){{0,2}}$"
    r"|(?<=\d)[VAWJΩ]$"
)
"""A unit of one letter, told from a variable by the space before it."""

_NOT_UNITS = frozenset({"or", "and", "to"})
_PI = re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Value:
    """What an answer was read as.

    Attributes:
        kind: ``number``, ``ordered``, ``set`` or ``text``.
        numbers: of a number: its value at each point of `arithmetic`.
        members: of a tuple, an interval or a set.
        text: of a text, squeezed; of an ordered value, its two brackets; of a number, its unit.
    """

    kind: str
    numbers: tuple[float, ...] = ()
    members: "tuple[Value, ...]" = ()
    text: str = ""


def same(first: str, second: str) -> bool:
    """Return whether two answers are equal as texts or as values of 2 decimals."""
    if first.strip() == second.strip():
        return bool(first.strip())
    if len(first) > MAX_CHARACTERS or len(second) > MAX_CHARACTERS:
        return False
    if (text := squeezed(clean(first))) and text == squeezed(clean(second)):
        return True
    return any(equal(a, b) for a in readings(first) for b in readings(second))


def canonical(text: str) -> str:
    """Return one spelling of an answer: equal numbers give equal text, whatever stood around them."""
    value = readings(text)[0]
    return _spelled(value) or " ".join(text.split())[:MAX_CHARACTERS]


def _spelled(value: Value) -> str:
    if value.kind == "number":
        return f"{round(value.numbers[0], 2) + 0.0:.15g}" if len(set(value.numbers)) == 1 else ""
    parts = [_spelled(member) for member in value.members]
    if not parts or not all(parts):
        return ""
    brackets = value.text or "{}"
    return f"{brackets[0]}{', '.join(parts if value.text else sorted(parts))}{brackets[1]}"


def readings(text: str) -> list[Value]:
    """Return every way to read an answer: ``(1,200)`` is a number or a pair, ``5 m`` 5 metres or 5·m."""
    if len(text) > MAX_CHARACTERS:
        return [Value("text", text=text)]
    cleaned = clean(text)
    values = [read(cleaned)]
    if unit := _ONE_LETTER.search(cleaned):
        bare = read(cleaned[: unit.start()])
        values.insert(0, replace(bare, text=squeezed(unit[0])) if bare.kind == "number" else bare)
    if re.search(r",\d{3}", cleaned):
        values.append(read(cleaned.replace(",", ", ")))
    return values


def read(text: str, depth: int = 0) -> Value:
    """Return a cleaned answer as a value."""
    body = text.strip()
    while _ASSIGNED.match(body) and depth < 3 and len(_members(body)) == 1:
        body = _ASSIGNED.sub("", body, count=1).strip()
    if (number := _number(body)) is not None:
        return number
    if body.count(r"\pm") == 1 and depth < 3:
        return Value("set", members=tuple(read(body.replace(r"\pm", sign), depth + 1) for sign in "+-"))
    inside, brackets = _bracketed(body)
    members = _members(inside)
    if len(members) > 1 and depth < 3 and len(members) <= MAX_MEMBERS:
        held = tuple(read(member, depth + 1) for member in members)
        return Value("set" if brackets in ("", "{}") else "ordered", members=held, text=brackets.strip("{}"))
    if brackets == "{}" and depth < 3:
        return read(inside, depth + 1)
    return Value("text", text=squeezed(body))


def _number(body: str) -> Value | None:
    body = body.replace(" ", "") if _SPACED.fullmatch(body) else body
    body = _SLASHED.sub(r"\1\2\\frac{\3}{\4}", _PI.sub(r"\\pi ", body))
    if points := numbers(body):
        return Value("number", points)
    body = _SCALE.sub(lambda match: f"*10^{{{_SCALES[match[1].lower()]}}}", body)
    unit = _UNIT.search(body)
    if unit and unit[1].split()[0].lower() in _NOT_UNITS:
        return None
    bare = body[: unit.start()] if unit else body
    points = numbers(bare)
    return Value("number", points, text=squeezed(unit[1]) if unit else "") if points else None


def _bracketed(body: str) -> tuple[str, str]:
    r"""Return what stands in the outer brackets, and the two brackets; ``\{ \}`` count as braces."""
    if body.startswith(r"\{") and body.endswith(r"\}"):
        return body[2:-2], "{}"
    if len(body) > 2 and body[0] in "([{" and body[-1] in ")]}" and _encloses(body):
        return body[1:-1], body[0] + body[-1] if body[0] != "{" else "{}"
    return body, ""


def _encloses(body: str) -> bool:
    depth = 0
    for index, character in enumerate(body):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return index == len(body) - 1
    return False


def _members(body: str) -> list[str]:
    """Split at commas, semicolons, "and" and "or" outside brackets; thousands stay together."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(r"[(\[{]|[)\]}]|,(?!\d{3}(?!\d))|;| (?:and|or) ", body):
        token = match[0]
        if token in "([{":
            depth += 1
        elif token in ")]}":
            depth -= 1
        elif depth == 0:
            parts.append(body[start : match.start()])
            start = match.end()
    return [part.strip() for part in [*parts, body[start:]] if part.strip()]


def equal(first: Value, second: Value) -> bool:
    """Return whether two values are equal; sets in any order."""
    if first.kind != second.kind or len(first.members) != len(second.members):
        return False
    if first.kind == "number":
        near = all(_near(a, b) for a, b in zip(first.numbers, second.numbers, strict=True))
        return near and (not first.text or not second.text or _same_unit(first.text, second.text))
    if first.kind == "text":
        return bool(first.text) and first.text == second.text
    if first.kind == "ordered":
        return first.text == second.text and all(map(equal, first.members, second.members))
    rest = list(second.members)
    for member in first.members:
        match = next((candidate for candidate in rest if equal(member, candidate)), None)
        if match is None:
            return False
        rest.remove(match)
    return True


def _near(first: float, second: float) -> bool:
    """Return whether two numbers agree to 2 decimals; very small ones to 1 %."""
    if round(first, 2) != round(second, 2):
        return abs(first - second) <= 1e-9 * max(abs(first), abs(second))
    return round(first, 2) != 0 or abs(first - second) <= 0.01 * max(abs(first), abs(second)) + 1e-12


def _same_unit(first: str, second: str) -> bool:
    """Return whether two units are spelled alike, or are words of which one begins the other."""
    short, long = sorted((first, second), key=len)
    return long.startswith(short) and (short == long or len(short) > 2 or long == f"{short}s")
