"""Letters that name an option, told from articles, pronouns, units and what is denied."""

import itertools
import re
from collections.abc import Sequence

from relope.extract.grading.declared import imagined
from relope.types import LETTERS

MENTIONS = 500
"""So many letters are looked at; a longer row of them names nothing."""

_WHOLE = re.compile(
    r"(?:a:|ans[:.]|(?:the )?(?:(?:correct|final|best) )?(?:answer|option|choice|letter))?[ :]{0,2}"
    r"[\s\"'“‘(\[<]{0,4}([A-Za-z])[\s\"'”’)\]>.,:;!]{0,6}",
    re.IGNORECASE,
)
_LEADING = re.compile(
    r"[\"'“‘]?(?:[(\[]([A-Za-z])[)\]]|([A-Z]) ?[.):\]](?![A-Za-z]\.)|([a-z])[.)](?=\s"
    r"|$))(?!\s*[\"'(\[]?[A-Z][)\].]?$)"
)
_LISTED = re.compile(r"[^\n]*\n[-*• ]{0,3}[(\[]?[Bb] ?[.):\]]")
"""What follows option A's label in a list of all the options."""

_DENIED_BEFORE = re.compile(
    r"(?:\bnot|n['’]t|\bneither|\bnor|\brather than|\binstead of|\bunlike|\bexcept|\bexclud\w{1,5}|\beliminat\w{1,5}"
    r"|\bcannot|\brul\w{1,3} out|\b(?:all|everything|anything|any) but"
    r")(?: (?:be|is|it|it['’]s|that|that['’]s|the|correct|right|option|choice|answer|think|believe"
    r"|sure|if|pick|choose"
    r"|select|say|go|with)){0,6}"
    r"(?: [(\[]?[A-Z][)\]]? (?:or|nor))? ?[(\[\"']?$"
    r"|\b(?:none|neither|all|each) of\b[^.;:\n]{0,44}$"
    r"|\b(?:no es|no son|não é|non è|n['’]est pas|(?:ist|is|är|er) (?:nicht|niet|inte|ikke)|to nie|jest nie|не|bukan"
    r"|không phải(?: là)?)(?: (?:la|el|le|die|de|a|option|opción|buchstabe|буква|вариант)){0,2} ?[(\[\"'«]?$"
    r"|(?:不是|并非|不选|않고|아니라) ?[(]?$",
    re.IGNORECASE,
)
_BEING = r"(?:,? (?:is|are|was|seems|would be|can be|must be)|(?:,? ?(?:and|or|,|&) ?[(\[]?[A-Z][)\]]?){1,9} are)"
"""The verb behind a letter, or the rest of a list of letters and its verb."""

_FULLY = r"(?: clearly| definitely| both| all| also){0,2}"
_DENIED_AFTER = re.compile(
    rf"[)\]\"']{{0,2}}(?:{_BEING}(?:n['’]t|{_FULLY} not)\b|{_BEING}?{_FULLY} "
    r"(?:not (?:correct|right|true|it|the|possible)|incorrect|wrong|false|isn['’]t|cannot|can['’]t"
    r"|ruled out|eliminated|excluded)\b)",
    re.IGNORECASE,
)
_NEXT_LABEL = re.compile(r"(?:,|,? ?(?:or|and|/|&)) ?[(\[]?[A-Za-z](?:[)\].,]|$)")
_NO_NOUN = re.compile(
    r"is|are|was|were|and|or|but|because|since|as|for|if|when|with|would|will|seems|appears|looks|due|given|has|have"
    r"|based|by|in|on|at|from|to|which|that|matches|describes|represents|shows|fits|gives|while|not|so|however",
    re.IGNORECASE,
)
"""Words that cannot follow the article "A": the letter is meant."""

_NO_VERB = re.compile(r"is|and|or|but|because|since|as|which|due|given|based|matches|shows", re.IGNORECASE)
"""Words that cannot follow the pronoun "I"."""

_ALIKE = dict(zip("АВСЕНІКМОРТХаΑΒΕΖΗΙΚΜΝΟΡΤΧ", "ABCEHIKMOPTXaABEZHIKMNOPTX", strict=True))
"""Cyrillic and Greek letters that look like the label of an option."""

_ALIKE_ALONE = re.compile(
    rf"(?<![\w'’-])[{''.join(_ALIKE)}](?![\w'’])"
    r"(?=[\s\"'”’»)\]>.,:;!?*]*$|[\"'”’»)\]>.,:;!?*]+(?:\s|$)| ?[)\]]| [-–—(]|\n| (?:потому|так как"
    r"|поскольку|ибо|т\. ?к"
    r"|является|верн|правильн|и|или|та|αφού|επειδή|διότι|είναι|ή|και)\b)",
    re.MULTILINE,
)
"""One that stands alone and is no word: "В картинке" begins with "in", "ответ: В" names an option."""

_OTHER_ALPHABET = re.compile(r"(?<!\w)[БГДЖбгд](?=[).:]|\s*$)", re.MULTILINE)
"""A label that no Latin letter looks like: the options are counted А Б В Г, where В is the third."""

_WITHDRAWN = re.compile(
    r"\b(?:wait|hold on|hmm+|scratch that|on second thoughts?|let me (?:re-?check|re-?think"
    r"|re-?consider|double[- ]check)"
    r"|i made an? (?:mistake|error)|correction|i was wrong|sorry|oops|actually|no,? that(?:['’]s| is))\b"
    r"|等等|不对|잠깐|待って",
    re.IGNORECASE,
)
_INSTEAD = re.compile(
    r"\b(?:(?:it|that|this|answer)(?:['’]s| is| must be| has to be| should be)|should be|make that|choose|go with|is)"
    r"(?: actually| really| in fact| clearly| rather)? (?:the )?(?:option |letter )?[(\[\"']?([A-Z])(?![\w'’?-])",
    re.IGNORECASE,
)
_NOT_RIGHT = re.compile(
    r"\b(?:that|this|it|which)(?:(?: is| was|['’]s) (?:wrong|incorrect|not (?:right|correct|it)|a mistake|mistaken)"
    r"|(?: isn['’]t| cannot be| can['’]t be) (?:right|correct|it))\b"
    r"|\bi (?:was|am) wrong\b|\bi made an? (?:mistake|error)\b|scratch that|不对",
    re.IGNORECASE,
)
_ASKED = re.compile(r"[)\]\"'”’]{0,2} ?\?\s*\S")
"""A question that more follows: "A? B? No, C"."""

_NEXT_WORD = re.compile(r" ([A-Za-z][A-Za-z'’-]*)")


def whole(text: str, choices: Sequence[str]) -> str:
    """Return the letter that is all of a text."""
    match = _WHOLE.fullmatch(text)
    return _known(match[1], choices) if match else ""


def leading(text: str, choices: Sequence[str]) -> str:
    """Return the letter that a text begins with as a label, or that is its first or last line."""
    match = _LEADING.match(text)
    if match and _sole(text, match) and (letter := _known(next(filter(None, match.groups())), choices)):
        return letter
    lines = text.splitlines()
    if len(lines) < 2:
        return ""
    return whole(lines[0], choices) or whole(lines[-1], choices)


def _sole(text: str, match: re.Match[str]) -> bool:
    """Return whether a leading label is neither denied, nor one of several, nor the first of a list."""
    end = match.end()
    first = "A" in match[0].upper() and listed(text, end)
    return not (first or _DENIED_AFTER.match(text, end) or _NEXT_LABEL.match(text, end))


def listed(text: str, end: int) -> bool:
    """Return whether the line after a position is labelled B, so that an A there begins a list of the options."""
    return bool(_LISTED.match(text, end))


def named(text: str, pattern: re.Pattern[str], choices: Sequence[str]) -> str:
    """Return the one letter that a pattern finds, when it is not denied and no other is found."""
    letters = set()
    for match in itertools.islice(pattern.finditer(text), MENTIONS):
        letter, bare = _known(match[1], choices), len(match[0]) == 1
        if _ASKED.match(text, match.end()) or imagined(text, match.start()):
            continue
        if letter and not _denied(text, match) and not (bare and word(text, match[0], match.end(), choices)):
            letters.add(letter)
    return letters.pop() if len(letters) == 1 else ""


def word(text: str, letter: str, end: int, choices: Sequence[str]) -> bool:
    """Return whether the bare letter that ends at a place is the article "a" or the pronoun "I"."""
    following = _NEXT_WORD.match(text, end)
    if following is None:
        return False
    if letter == "I":
        return not _NO_VERB.fullmatch(following[1])
    if letter not in "aA" or _NO_NOUN.fullmatch(following[1]):
        return False
    first = choices[0].casefold() if choices else ""
    return not first or not text[end:].strip().casefold().startswith(first)


def latin(text: str) -> str:
    """Return text with the Latin letter for a Cyrillic or Greek one that names an option and looks like it."""
    if text.isascii() or _OTHER_ALPHABET.search(text):
        return text
    return _ALIKE_ALONE.sub(lambda match: _ALIKE[match[0]], text)


def corrected(text: str, end: int, letter: str, choices: Sequence[str]) -> str:
    """Return the letter that was declared last, or the one that is put in its place: "wait, it is C".

    ``""`` where it is withdrawn and nothing takes its place. Letters that are only named change nothing.
    """
    match = _WITHDRAWN.search(text, end)
    if match is None:
        return letter
    rest = text[match.start() :]
    instead = [
        other[1]
        for other in itertools.islice(_INSTEAD.finditer(rest), MENTIONS)
        if other[1].isupper() and _known(other[1], choices) and not _denied(rest, other)
        and not word(rest, other[1], other.end(1), choices)
    ]  # fmt: skip
    if instead:
        return instead[-1]
    return "" if _NOT_RIGHT.search(rest) else letter


def doubted(text: str, start: int) -> bool:
    """Return whether what begins at a place is denied by the words before it."""
    return bool(_DENIED_BEFORE.search(text[max(0, start - 48) : start]))


def _denied(text: str, match: re.Match[str]) -> bool:
    return doubted(text, match.start()) or bool(_DENIED_AFTER.match(text, match.end(1)))


def _known(letter: str, choices: Sequence[str]) -> str:
    return letter.upper() if letter.upper() in LETTERS[: len(choices)] else ""
