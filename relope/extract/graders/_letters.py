"""Letters that name an option, told from articles, pronouns, units and what is denied."""

import itertools
import re
from collections.abc import Sequence

from relope.extract.prompts import LETTERS

MENTIONS = 500
"""So many letters are looked at; a longer row of them names nothing."""

_WHOLE = re.compile(
    r"(?:a:|ans[:.]|(?:the )?(?:(?:correct|final|best) )?(?:answer|option|choice|letter))?[ :]{0,2}"
    r"[\s\"'“‘(\[<]{0,4}([A-Za-z])[\s\"'”’)\]>.,:;!]{0,6}",
    re.IGNORECASE,
)
_LEADING = re.compile(
    r"[\"'“‘]?(?:[(\[]([A-Za-z])[)\]]|([A-Z]) ?[.):\]](?![A-Za-z]\.)|([a-z])[.)](?=\s|$))(?!\s*[\"'(\[]?[A-Z][)\].]?$)"
)
_DENIED_BEFORE = re.compile(
    r"(?:\bnot|n['’]t|\bneither|\bnor|\brather than|\binstead of|\bunlike|\bexcept|\bexclud\w{1,5}|\beliminat\w{1,5}"
    r"|\bcannot|\brul\w{1,3} out)(?: (?:be|is|it|the|option|choice|answer|think|believe|that)){0,5}"
    r"(?: [(\[]?[A-Z][)\]]? (?:or|nor))? ?[(\[\"']?$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"[)\]\"']{0,2},?(?: (?:is|are|was|seems|would be|can be|must be))?"
    r"(?:n['’]t|(?: clearly| definitely)? "
    r"(?:not|incorrect|wrong|false|isn['’]t|cannot|can['’]t|ruled out|eliminated|excluded)\b)",
    re.IGNORECASE,
)
_NEXT_LABEL = re.compile(r"(?:,|,? ?(?:or|and|/|&)) ?[(\[]?[A-Z](?:[)\].,]|$)")
_NO_NOUN = re.compile(
    r"is|are|was|were|and|or|but|because|since|as|for|if|when|with|would|will|seems|appears|looks|due|given|has|have"
    r"|based|by|in|on|at|from|to|which|that|matches|describes|represents|shows|fits|gives|while|not|so|however",
    re.IGNORECASE,
)
"""Words that cannot follow the article "A": the letter is meant."""

_NEXT_WORD = re.compile(r" ([A-Za-z][A-Za-z'’-]*)")


def whole(text: str, choices: Sequence[str]) -> str:
    """Return the letter that is all of a text."""
    match = _WHOLE.fullmatch(text)
    return _known(match[1], choices) if match else ""


def leading(text: str, choices: Sequence[str]) -> str:
    """Return the letter that a text begins with as a label, or that is its first or last line."""
    match = _LEADING.match(text)
    if match and _sole(text, match.end()) and (found := _known(next(filter(None, match.groups())), choices)):
        return found
    lines = text.splitlines()
    if len(lines) < 2:
        return ""
    return whole(lines[0], choices) or whole(lines[-1], choices)


def _sole(text: str, end: int) -> bool:
    """Return whether a leading label is neither denied nor one of several."""
    return not (_DENIED_AFTER.match(text, end) or _NEXT_LABEL.match(text, end))


def named(text: str, pattern: re.Pattern[str], choices: Sequence[str]) -> str:
    """Return the one letter that a pattern finds, when it is not denied and no other is found."""
    found = set()
    for match in itertools.islice(pattern.finditer(text), MENTIONS):
        letter = _known(match[1], choices)
        if letter and not _denied(text, match) and not _is_word(text, match, choices):
            found.add(letter)
    return found.pop() if len(found) == 1 else ""


def article(text: str, end: int, choices: Sequence[str]) -> bool:
    """Return whether the "A" that ends at a place is the article of the word behind it."""
    word = _NEXT_WORD.match(text, end)
    if word is None or _NO_NOUN.fullmatch(word[1]):
        return False
    first = choices[0].casefold() if choices else ""
    return not first or not text[end:].strip().casefold().startswith(first)


def _is_word(text: str, match: re.Match[str], choices: Sequence[str]) -> bool:
    """Return whether a bare letter is the article "A" or the pronoun "I"."""
    if match[0] == "A":
        return article(text, match.end(), choices)
    return match[0] == "I" and bool(_NEXT_WORD.match(text, match.end()))


def _denied(text: str, match: re.Match[str]) -> bool:
    before, start = text[max(0, match.start() - 48) : match.start()], match.end(1)
    return bool(_DENIED_BEFORE.search(before) or _DENIED_AFTER.match(text, start))


def _known(letter: str, choices: Sequence[str]) -> str:
    return letter.upper() if letter.upper() in LETTERS[: len(choices)] else ""
