r"""The option letter of a multiple-choice answer.

The rules are tried in this order; the first that finds a letter decides:

1. the last boxed letter, ``\boxed{B}``, or a boxed option text;
2. an explicit "answer is B", "answer: B", "B is correct", or "answer is" and an option's text;
3. the whole response is a letter (``b``, ``**B**``, ``(B)``), or is the text of one option;
4. it begins with ``B.``, ``B)`` or ``(B)``, or its first or last line is a letter;
5. the single bracketed letter that is not negated;
6. the single standalone capital that is neither negated nor the article "A";
7. the one longest option text contained in the response, unless all options stand in it.

A bare repetition of the options counts for nothing. Otherwise the answer is unparsed and wrong.
Nothing is ever guessed.
"""

import re
from collections.abc import Callable, Sequence

from relope.extract.graders.exact import fold
from relope.extract.grading import answer_text
from relope.extract.grading.grader import bounded
from relope.extract.grading.letters import doubted, leading, listed, named, whole, word
from relope.types import LETTERS, Grade

VERSION = "3"

UNKNOWN = ("",) * 10

_SURELY = r"(?: (?:clearly|definitely|therefore|thus|most|likely|probably|actually|obviously|simply|indeed|still)){0,2}"
_EXPLICIT = re.compile(
    r"\b(?:answer|option|choice|ans)\b(?: (?!not\b|never\b|isn|can't|cannot|won't)[A-Za-z']{1,20}){0,6}? ?"
    r"(?:\b(?:is|be)\b|[:=→]|->)"
    + _SURELY
    + r"[\s:]{0,3}(?:(?:the )?(?:correct )?(?:option|choice|letter|answer)\b[\s:]{0,2})?"
    r"[\"'“‘(\[<]{0,3}([A-Za-z])(?![\w+#-]|['’]\w)"
    r"|(?<![\w'’(\[-])(?P<option>(?:option|choice|answer|letter) )?"
    r"[(\[]?(?P<correct>[A-Z])[)\]]? is (?:the )?(?:most |only )?(?:correct|right|best)\b",
    re.IGNORECASE,
)
_ANOTHER = re.compile(
    r"[)\]\"'”’]{0,2}(?:,? ?(?:or|and|/|&) ?[(\[]?[A-Z](?![\w'’-])|, ?[(\[]?[A-Z][)\]]?(?=$|[,.;\n]| and | or ))"
)
_WORDLY = r"[^\W\u3040-\u9fff]"
"""A letter or digit, but none of Chinese or Japanese, where words are not spaced."""

_BRACKETED = re.compile(r"(?<![A-Za-z0-9\\])[(\[]([A-Za-z])[)\]]")
_STANDALONE = re.compile(rf"(?<!{_WORDLY}|[.'’°/+-])(?<!\d )([A-Z])(?!{_WORDLY}|['’°/+#-]| ?=|\.\w)")
_ARTICLE = re.compile(r"^(?:an?|the) ", re.IGNORECASE)
_NONE = re.compile(r"\b(?:none|neither) of (?:the|these|them)\b", re.IGNORECASE)

Rule = Callable[[str, Sequence[str]], str]


def grade(response: str, answers: Sequence[str], choices: Sequence[str]) -> Grade:
    """Judge a multiple-choice answer; gold answers are letters. Unknown options may be A–J."""
    letter = parse(response, choices or UNKNOWN)
    gold = answers if choices else [whole(answer, UNKNOWN) for answer in answers]
    return Grade(bool(letter) and letter in gold, letter, "parsed" if letter else "unparsed")


def parse(response: str, choices: Sequence[str]) -> str:
    """Return the option letter that an answer names, or ``""``."""
    text = answer_text.untagged(bounded(response))
    if letter := _boxed(text, choices):
        return letter
    text = _unlisted(answer_text.plain(text), choices)
    rules: tuple[Rule, ...] = (_explicit, _stated, whole, equal, leading, _bracketed, _standalone, _contained)
    for rule in rules:
        if letter := rule(text, choices):
            return letter
    return ""


def _boxed(text: str, choices: Sequence[str]) -> str:
    for content in map(answer_text.plain, answer_text.boxed(text)):
        if letter := whole(content, choices) or equal(content, choices) or leading(content, choices):
            return letter
    return ""


def _explicit(text: str, choices: Sequence[str]) -> str:
    last = ""
    for match in _EXPLICIT.finditer(text):
        group = 1 if match[1] else "correct"
        letter, end = match[group], match.end(group)
        loose = group != 1 and letter.islower() and not match["option"]
        begun = letter in "aA" and listed(text, end)
        if loose or begun or word(text, letter, end, choices) or letter.upper() not in LETTERS[: len(choices)]:
            continue
        if not doubted(text, match.start()) and not _ANOTHER.match(text, end):
            last = letter.upper()
    return last


def _bracketed(text: str, choices: Sequence[str]) -> str:
    return named(text, _BRACKETED, choices)


def _standalone(text: str, choices: Sequence[str]) -> str:
    for choice in map(answer_text.plain, choices):
        if len(choice) > 1 and _STANDALONE.search(choice):  # the letter in "Vitamin C" names no option
            text = re.sub(rf"(?<!\w){re.escape(choice)}(?!\w)", " ", text, flags=re.IGNORECASE)
    return named(text, _STANDALONE, choices)


def _unlisted(text: str, choices: Sequence[str]) -> str:
    """Return a response without a repetition of all the labelled options."""
    options = zip(LETTERS, map(answer_text.plain, choices), strict=False)
    parts = (rf"[(\[]?{letter}[.):\]]{{1,2}}\s?{re.escape(' '.join(option.split()))}" for letter, option in options)
    return re.sub(r"\W{1,6}".join(parts), "", text, flags=re.IGNORECASE).strip() if any(choices) else text


def _stated(text: str, choices: Sequence[str]) -> str:
    said = answer_text.stated(text)
    return equal(said, choices) or equal(_ARTICLE.sub("", said), choices)


def equal(text: str, choices: Sequence[str]) -> str:
    """Return the letter of the one option whose text a text is."""
    said = fold(text)
    equal_to = [index for index, choice in enumerate(choices) if said and fold(answer_text.plain(choice)) == said]
    return LETTERS[equal_to[0]] if len(equal_to) == 1 else ""


def _contained(text: str, choices: Sequence[str]) -> str:
    said = f" {' '.join(text.casefold().split())} "
    options = [fold(answer_text.plain(choice)) for choice in choices]
    if _NONE.search(text) and not any(option.startswith("none") for option in options):
        return ""
    lengths = [len(option) if option and _mentions(said, option) else 0 for option in options]
    longest = max(lengths, default=0)
    if not longest or lengths.count(longest) > 1:
        return ""
    index = lengths.index(longest)
    rest, others = (
        said.replace(options[index], " "),
        [option for option in options if option not in ("", options[index])],
    )
    return "" if others and all(_mentions(rest, option) for option in others) else LETTERS[index]


def _mentions(said: str, option: str) -> bool:
    """Return whether an option's text stands in a response as words of its own, not negated."""
    number = r"(?<![^\d][-−+])(?<!\d[.,/^])(?<![/^])" if option[0].isdigit() else ""
    pattern = rf"(?<!\w){number}{re.escape(option)}(?!\w)(?![.,/]\d)"
    before = (said[max(0, match.start() - 16) : match.start()] for match in re.finditer(pattern, said))
    return any(not _DENIED.search(words) for words in before)


_DENIED = re.compile(
    r"(?:\bnot|\bno|n['’]t|\bneither|\bnor|\brather than|\binstead of|\bunlike)(?: (?:be|a|an|the))? $"
)
