"""What each renderer of a table must not be told by a name: one function a renderer; HTML is escaped by jinja.

Names of methods, data sets and models come from users and from files that others have made.
"""

import re
import unicodedata

_MARKDOWN = {
    "&": "&amp;", "<": "&lt;", ">": "&gt;",
    **{letter: f"\\{letter}" for letter in "\\`*[]|~$!"},
}  # fmt: skip
"""GitHub shows raw HTML, and runs ``$…$`` as mathematics."""

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}",
    "−": "$-$", "–": "--", "—": "---", "±": r"$\pm$", "Δ": r"$\Delta$", "β": r"$\beta$", "×": r"$\times$",
    "≤": r"$\leq$", "→": r"$\to$", "\N{NARROW NO-BREAK SPACE}": r"\,",
}  # fmt: skip
r"""Brackets and stars in braces: after ``\\`` and ``\midrule`` they would be read as an argument."""

_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the start of a formula."""

_ENDING = ("Cc", "Cs", "Zl", "Zp")
"""Categories of control characters, lone surrogates, and the ends of lines and paragraphs."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def one_line(text: str) -> str:
    """Return text on one line, without control characters: a line end would end a row."""
    kept = "".join(letter if unicodedata.category(letter) not in _ENDING else "\n" for letter in text)
    return re.sub(r" *\n[ \n]*", " ", kept)


def markdown_text(text: str) -> str:
    """Return text that GitHub's Markdown shows as it is."""
    line = "".join(_MARKDOWN.get(letter, letter) for letter in one_line(text))
    # Between letters an underscore opens nothing.
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", line)
    return re.sub(r"^(\s*)([#+=-]|\d+(?=[.)]\s))", _disarmed, line)


def _disarmed(match: re.Match[str]) -> str:
    """Return what would begin a heading or a list so that it begins none."""
    return f"{match[1]}&#{ord(match[2][0])};{match[2][1:]}"


def latex_text(text: str) -> str:
    """Return text that LaTeX sets as it is: nothing in it is a command, and two hyphens make no dash."""
    parts = re.split("(?<=-)(?=-)", one_line(text))
    return "{}".join("".join(_LATEX.get(letter, letter) for letter in part) for part in parts)


def csv_cell(value: object) -> object:
    """Return a value that a spreadsheet shows as it is: text that begins like a formula gets an apostrophe before it.

    Numbers stay what they are, also where they are text.
    """
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    line = one_line(value)
    return f"'{line}" if line.lstrip().startswith(_FORMULA) else line
