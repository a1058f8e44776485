r"""What graders share: boxed answers, "the answer is …", and marks that carry no meaning."""

import functools
import re
import unicodedata

from relope.extract.grading.declared import counterfactual, declaration, imagined

LINE_CHARACTERS = 400
"""So much is read behind a declaration of an option."""

BOXES = 5
"""So many boxes are looked at, from the last one back."""

_COMMANDS = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:rm|bf|it|bb|sf|cal)|operatorname|boldsymbol|displaystyle"
    r"|rm|bf)(?![A-Za-z]) ?"
)
_MARKS = re.compile(r"\\(?:f?boxed|fbox)(?![A-Za-z])|\\[()\[\]]|[*`$]|(?<![^\W_])_+|_+(?![^\W_])")
_TAGS = re.compile(
    r"</?(?:(?i:answer|final|final_?answer|conclusion|response)|b|i|u|em|strong|p|br|s|bos|eos|end_of_turn) ?/?>"
    r"|<\|[A-Za-z_]{1,20}\|>"
)
_SIGNS = {"\N{MINUS SIGN}": "-", "‘": "'", "’": "'", "“": '"', "”": '"'}
_FOREIGN = re.compile(r"[^\x00-\x7f]")
_PIECE = re.compile(r"\S{1,100}")
"""Accents are joined to their letters piece by piece: sorting a long run of accents takes quadratic time."""

_CONCLUDED = re.compile(
    r"\b(?:(?:it|that)['’]s|is|are|was|be|equals|equal to|gives|giving|yields|get|approximately|about)\b:? ?"
    r"|(?<=[A-Za-z]{3}): |^[#> ]*(?:(?:so|thus|hence|therefore|then|finally)\b,? ?)?",
    re.IGNORECASE,
)
_REASON = re.compile(
    r",? (?:since|because|as|which|where|so|given)\b"
    r"|, (?:not|although|though|but|even|while|whereas|unless|if|despite)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[^\s.])(?<!\b(?:St|Dr|Mt|Mr|Ms))(?<!\bMrs)[.!?](?= [A-Z(\\]|$)|。")


def unified(text: str) -> str:
    """Return text with plain letters, digits and signs for their full-width or styled forms; 10² stays 10²."""
    if text.isascii():
        return text
    text = _FOREIGN.sub(lambda match: _plain_form(match[0]), text)
    return _PIECE.sub(lambda match: unicodedata.normalize("NFC", match[0]), text)


@functools.lru_cache(4096)
def _plain_form(character: str) -> str:
    if unicodedata.category(character) in ("Cf", "Cs"):  # zero-width, or half of a pair
        return ""
    if unicodedata.decomposition(character).startswith(("<super>", "<fraction>")):
        return character
    form = _SIGNS.get(character) or unicodedata.normalize("NFKC", character)
    return form if len(form) < 5 else character  # some stand for whole phrases


def untagged(text: str) -> str:
    """Return text without the tags of answers, marks and turns."""
    return _TAGS.sub("", text).strip() or text


def final(text: str) -> str:
    r"""Return the answer that a text declares: its last ``\boxed{…}``, else what "the answer is", else ``""``."""
    boxes = boxed(text)
    return boxes[0] if boxes else stated(text)


def boxed(text: str) -> list[str]:
    r"""Return what the last few ``\boxed{…}`` hold, that which counts first; braces may nest.

    One that is said of another case ("if it had wings, it would be …") holds no answer. Choice: the last of the others
    counts, since a model that thinks on corrects itself, but one that is denied or spoken of under a condition that
    is not met comes after all that are not: a counterfactual corrects nothing.
    """
    contents: list[str] = []
    aside: list[str] = []
    end = len(text)
    for _ in range(BOXES):
        start = max(text.rfind(r"\boxed", 0, end), text.rfind(r"\fbox", 0, end))
        if start < 0:
            break
        content = _group(text[start:end].split("x", 1)[1].removeprefix("ed").lstrip())
        if content and not imagined(text, start):
            behind = text.find("}", start + len(content)) + 1 or end
            (aside if counterfactual(text, start, behind) else contents).append(content)
        end = start
    return [*contents, *aside]


def _group(text: str) -> str:
    """Return what stands in the braces that a text begins with, or its first word."""
    if not text.startswith("{"):
        return text.split(maxsplit=1)[0] if text else ""
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[1:index].strip()
    return ""


def plain(text: str) -> str:
    """Return text without Markdown and LaTeX marks, so that a letter or a word stands alone."""
    return _MARKS.sub("", _COMMANDS.sub("", text)).replace("{", "").replace("}", "").strip()


def stated(text: str) -> str:
    """Return what "the answer is" says where it counts, without further sentences and reasons, or ``""``."""
    return _without_reason(tail(text))


def tail(text: str) -> str:
    """Return the rest of the line after the "answer is" that counts (or the next line), or ``""``."""
    last = declaration(text)
    return _line_at(text, last.end) if last else ""


def said_at(text: str, end: int) -> str:
    """Return what stands behind a declaration, without further sentences and reasons."""
    return _without_reason(_line_at(text[: end + LINE_CHARACTERS], end))


def _line_at(text: str, end: int) -> str:
    lines = text[end:].lstrip(" :*_\n").split("\n", 20)
    return next((line.strip(" :") for line in lines[:20] if plain(line)), "")


def _without_reason(line: str) -> str:
    return _REASON.split(_sentence(line), maxsplit=1)[0]


def concluded(text: str) -> str:
    """Return what the last line ends in: what follows its last "is", else all of it."""
    lines = text.splitlines()
    line = _sentence(lines[-1], last=True) if lines else ""
    ends = [match.end() for match in _CONCLUDED.finditer(line)]
    return (line[ends[-1] :].strip() if ends else "") or line


def _sentence(line: str, last: bool = False) -> str:
    """Return the first (or last) sentence of a line; a full stop within a number ends none."""
    parts = [part for part in _SENTENCE_END.split(line) if part.strip()]
    return (parts[-1 if last else 0] if parts else line).strip()
