r"""LaTeX and typographic spellings of an answer, reduced to one.

``\dfrac``→``\frac``, ``\text{…}``→its words, ``−``→``-``, degrees, percent and currency signs
away. Only replacements, each linear in the text; nothing is interpreted.
"""

import re
import unicodedata

from relope.extract.grading.answer_text import unified

MAX_CHARACTERS = 600
"""A longer answer is not read as a value but compared as text."""

_SPACING = re.compile(
    r"\\(?:left|right|displaystyle|[lL]arge|LARGE|[hH]uge|small|limits|bigl?|bigr?|Bigl?|Bigr?|quad|qquad)"
    r"(?![A-Za-z])|\\[,;:! ()\[\]]|\\$|[~$`]"
)
_WORDS = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:rm|bf|it|sf)|operatorname|mbox|boldsymbol|rm|bf)(?![A-Za-z]) ?"
)
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_DEGREE = re.compile(r"\^ ?\{? ?(?:\\circ|°|∘) ?\}?|\\degrees?(?![A-Za-z])|°|º|\\circ(?![A-Za-z])")
_MONEY = re.compile(r"\\?\$|[€£¥₹]|\b(?:USD|EUR|GBP)\b|\bUS(?=\$)|\\(?:pounds|euro)(?![A-Za-z])")
_PERCENT = re.compile(r"\\?%|\b(?:percent|per cent)\b")
_REPLACED = {
    "−": "-", "–": "-", "—": "-", "×": "*", "·": "*", "⋅": "*", "÷": "/", "⁄": "/", "π": r"\pi ", "√": r"\sqrt ",
    "∞": r"\infty ", "∪": r"\cup ", "∈": "=", "≥": ">=", "≤": "<=", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "≈": "=", "{,}": ",",
}  # fmt: skip
_COMMANDS = {"times": "*", "cdot": "*", "ast": "*", "div": "/", "approx": "=", "simeq": "=", "sim": "=",
             "lbrace": r"\{", "rbrace": r"\}", "infin": r"\infty ", "lbrack": "[", "rbrack": "]", "colon": ":",
             "in": "=", "mu": "μ", "Omega": "Ω",
             "leq": "<=", "le": "<=", "geq": ">=", "ge": ">=", "lt": "<", "gt": ">"}  # fmt: skip
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_RAISED = re.compile(r"[⁺⁻⁰¹²³⁴-⁹]+")
_EMPHASIS = re.compile(r"(?<![\w)])\*\*|\*\*(?![\w(])")
_ABOUT = re.compile(r"^(?:approximately|approx\.?|about|around|roughly|nearly|almost|exactly) ", re.IGNORECASE)
_TIMES = re.compile(r"(?<=\d) ?[xX] ?(?=10 ?\^)")
_PER = re.compile(r"\\frac ?\{ ([A-Za-z]{1,12}) \} ?\{ ([A-Za-z]{1,12}) \}")
"""A unit of words above words, ``\\frac{\\text{km}}{\\text{h}}``; the words are set off by spaces."""

_WRAPPED = re.compile(r"\{((?:[^{}]|\{[^{}]*\})*)\}")


def clean(text: str) -> str:
    """Return an answer in the one spelling; at most ``MAX_CHARACTERS`` of it are cleaned."""
    text = unified(text[:MAX_CHARACTERS]).strip()
    text = _RAISED.sub(lambda match: f"^{{{unicodedata.normalize('NFKC', match[0])}}} ", text)
    for old, new in _REPLACED.items():
        text = text.replace(old, new)
    text = _EMPHASIS.sub("", text).strip(" *_`")
    text = _MONEY.sub("", _DEGREE.sub(" ", text))
    text = _FRACTION.sub(r"\\frac", _SPACING.sub(" ", text))
    text = _TIMES.sub("*", _PER.sub(r" \1/\2", _unwrapped_words(text)))
    text = _COMMAND.sub(lambda match: _COMMANDS.get(match[1], match[0]), text)
    return _ABOUT.sub("", " ".join(_PERCENT.sub(" ", text).split())).rstrip(".,;: ")


def _unwrapped_words(text: str) -> str:
    r"""Put the words of every ``\text{…}`` in its place, set off by spaces."""
    parts, done = [], 0
    for match in _WORDS.finditer(text):
        if match.start() < done:
            continue
        held = _WRAPPED.match(text, match.end())
        parts += [text[done : match.start()], f" {held[1]} " if held else " "]
        done = held.end() if held else match.end()
    return "".join([*parts, text[done:]])


def squeezed(text: str) -> str:
    """Return a cleaned text in the form in which texts are compared: no braces or case, few spaces."""
    bare = re.sub(r"[{}\"'“”‘’]+", "", text)
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", bare).casefold().strip(".,;:!?")
