r"""A restricted parser of short arithmetic: numbers, ``+ - * / ^``, ``\frac``, ``\sqrt``, ``\pi``, letters.

Recursive descent straight to floats: nothing is evaluated by Python, time is linear in the
length, and depth is bounded. A letter is a variable: two expressions are equal when they are at a
few fixed values of their variables.
"""

import math
import re

MAX_DEPTH = 40
POINTS = (0.0, 0.7310585786, -1.3247179572)
"""Added to a number that the variable's name decides; two expressions are compared at each."""

_TOKEN = re.compile(
    r"(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])|\d+\.?\d*(?:[eE][+-]?\d{1,4}(?![\w.]))?|\.\d+)"
    r"|(?P<command>\\[A-Za-z]+)|(?P<letter>[A-Za-z])|(?P<sign>[-+*/^(){}\[\]!])"
)
_DIGIT = re.compile(r"\d")


class Unreadable(Exception):
    """The text is no arithmetic that we read."""


def numbers(text: str) -> tuple[float, ...] | None:
    """Return the value of an expression at each of ``POINTS``, or None when it is none.

    All are equal when it has no variables.
    """
    try:
        return tuple(_Parser(text, point).whole() for point in POINTS)
    except (Unreadable, OverflowError, ZeroDivisionError, ValueError):
        return None


class _Parser:
    """One pass over the tokens of an expression at one point."""

    def __init__(self, text: str, point: float) -> None:
        self.tokens = _tokens(text)
        self.point, self.position, self.depth = point, 0, 0

    def whole(self) -> float:
        value = self.total()
        if self.position < len(self.tokens) or not math.isfinite(value):
            raise Unreadable
        return value

    def peek(self, ahead: int = 0) -> str:
        position = self.position + ahead
        return self.tokens[position] if position < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise Unreadable
        self.position += 1
        return token

    def total(self) -> float:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable
        value = self.product()
        while self.peek() in ("+", "-"):
            value = value + self.product() if self.take() == "+" else value - self.product()
        self.depth -= 1
        return value

    def product(self) -> float:
        value = self.signed()
        while (token := self.peek()) and token not in ("+", "-", ")", "}", "]"):
            if token in ("*", "/"):
                self.take()
                other = self.signed()
                value = value * other if token == "*" else value / other
            else:
                value *= self.power()
        return value

    def signed(self) -> float:
        sign = 1.0
        while self.peek() in ("+", "-"):
            sign = -sign if self.take() == "-" else sign
        return sign * self.power()

    def power(self) -> float:
        base = self.atom()
        while self.peek() == "!":
            self.take()
            base = _factorial(base)
        if self.peek() != "^":
            return base
        self.take()
        exponent = self.group() if self.peek() == "{" else self.tight()
        value = base**exponent
        if isinstance(value, complex):
            raise Unreadable
        return float(value)

    def tight(self) -> float:
        sign = -1.0 if self.peek() == "-" else 1.0
        if sign < 0:
            self.take()
        return sign * self.atom()

    def atom(self) -> float:
        token = self.take()
        if _DIGIT.search(token):
            return self.mixed(float(token.replace(",", "")))
        if token in ("(", "{", "["):
            value = self.total()
            self.take({"(": ")", "{": "}", "[": "]"}[token])
            return value
        if token == r"\frac":
            return self.fraction()
        if token == r"\sqrt":
            return self.root()
        if token == r"\pi":
            return math.pi
        if len(token) == 1 and token.isalpha():
            return 1.5 + (ord(token) * 0.618033988749895) % 1.0 + self.point
        raise Unreadable

    def mixed(self, number: float) -> float:
        r"""Return a number, with the proper fraction behind it added: ``1\frac{1}{2}`` is 1.5."""
        if self.peek() != r"\frac" or number != int(number):
            return number
        start = self.position
        self.take()
        part = self.fraction()
        if 0 < part < 1 and not any(token[-1].isalpha() for token in self.tokens[start + 1 : self.position]):
            return number + part
        self.position = start
        return number

    def fraction(self) -> float:
        above = self.argument()
        return above / self.argument()

    def root(self) -> float:
        degree = 2.0
        if self.peek() == "[":
            self.take()
            degree = self.total()
            self.take("]")
        value = self.argument()
        if value < 0:
            raise Unreadable
        return float(value ** (1.0 / degree))

    def argument(self) -> float:
        r"""Return what a command applies to: a group, or one digit or letter as in ``\frac12``."""
        if self.peek() in ("{", "("):
            return self.group()
        token = self.peek()
        if token.isdigit() and len(token) > 1 and self.tokens[self.position - 1] != r"\sqrt":
            self.tokens[self.position : self.position + 1] = [token[0], token[1:]]
            self.position += 1
            return float(token[0])
        return self.atom()

    def group(self) -> float:
        opened = self.take()
        value = self.total()
        self.take("}" if opened == "{" else ")")
        return value


def _tokens(text: str) -> list[str]:
    """Return the tokens of an expression.

    Raises:
        Unreadable: two letters stand side by side (a word), or a character that we do not know.
    """
    tokens: list[str] = []
    position = 0
    while position < len(text):
        if text[position] == " ":
            position += 1
            continue
        match = _TOKEN.match(text, position)
        if match is None or len(match[0]) > 300:
            raise Unreadable
        spaced = position > 0 and text[position - 1] == " "
        if match["number"] and tokens and spaced and _DIGIT.search(tokens[-1]):
            raise Unreadable  # "1 2" is no product
        if match["letter"] and text[match.end() : match.end() + 1].isalpha():
            raise Unreadable
        tokens.append(match[0])
        position = match.end()
    return tokens


def _factorial(value: float) -> float:
    if value != int(value) or not 0 <= value <= 20:
        raise Unreadable
    return float(math.factorial(int(value)))
