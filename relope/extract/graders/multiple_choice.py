r"""The option letter of a multiple-choice answer.

The rules are tried in this order; the first that finds a letter decides:

1. the last boxed letter, ``\boxed{B}``, or a boxed option text; one that is denied or said of another case ("it would
   be \boxed{C} if it were round") overrules no earlier one;
2. what is declared firmly: "answer is B", "answer: B", "B is correct", or "answer is" and an option's text;
3. the whole response is a letter (``b``, ``**B**``, ``(B)``), or is the text of one option, or both: ``B. A``;
4. it begins with ``B.``, ``B)`` or ``(B)``, or its first or last line is a letter;
5. what is declared with a doubt, "the answer should be B", when nothing else is;
6. the single bracketed letter that is not negated;
7. the single standalone capital that is neither negated nor the article "A";
8. the one option whose text stands in the response; two that are named are no answer.

What is said of another case ("if it had wings, the answer would be C") or asked ("the answer is A?") declares
nothing. A bare repetition of the options counts for nothing. Of an answer that broke off only rules 1 to 5 count.
Otherwise the answer is unparsed and wrong. Nothing is ever guessed.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from relope.extract.graders.exact import bare, fold
from relope.extract.grading import answer_text
from relope.extract.grading.declared import DECLARATIONS, Firmness, declarations, firmness
from relope.extract.grading.grader import answer, is_cut
from relope.extract.grading.letters import corrected, doubted, latin, leading, listed, named, whole, word
from relope.types import LETTERS, Grade

VERSION = "5"

UNKNOWN = ("",) * 10

_SURELY = r"(?: (?:clearly|definitely|therefore|thus|most|likely|probably|actually|obviously|simply|indeed|still)){0,2}"
_EXPLICIT = re.compile(
    r"\b(?:answer|option|choice|ans)\b(?: (?!not\b|never\b|isn|can't|cannot|won't)[A-Za-z']{1,20}){0,6}? ?"
    r"(?:\b(?:is|be)\b|[:=→]|->)"
    + _SURELY
    + r"[\s:]{0,3}(?:(?:the )?(?:correct )?(?:option|choice|letter|answer)\b[\s:]{0,2})?"
    r"[\"'“‘(\[<]{0,3}([A-Za-z])(?![\w+#-]|['’]\w)"
    r"|(?<![\w'’(\[-])(?P<option>(?:option|choice|answer|letter) )?"
    r"[(\[]?(?P<correct>[A-Z])[)\]]? is (?:the |my )?(?:most |only )?(?:correct|right|best|answer)\b",
    re.IGNORECASE,
)
_AFTER_HEAD = re.compile(
    r"[\s:]{0,3}(?:(?:the |la |el |le |l['’]|die |der |de |a |o |option |opción |choice |letter "
    r"|буква |вариант ){1,2})?"
    r"[\"'“‘«(\[<]{0,3}([A-Za-z])(?![A-Za-z0-9_\u0400-\u04ff+#-]|['’](?!d[ıiuü]r))",
    re.IGNORECASE,
)
"""The letter behind "die Antwort ist" and its like; Chinese and Korean set no space behind it."""

_LABELLED = re.compile(r"[\"'“‘(\[]{0,2}([A-Z]) ?[.):\]]{1,3}\s?(\S.{0,300}?)[\s.]{0,3}")
_IS_CORRECT = re.compile(
    r"(?<![A-Za-z])([A-Z])(?:(?:项|選項|选项)?(?:是)?(?:正确|正確|对的)|が(?:正解|正しい|答え)"
    r"|번?(?:이|가) ?(?:정답|맞))"
)
_IT_IS = re.compile(
    r"\b(?:it|that)(?:['’]s| is| must be) (?:option |choice |letter )?[(\[]?([A-Z])(?=[)\]]{0,2}(?:[.,;:!]|\s*$))",
    re.IGNORECASE,
)
_ANOTHER = re.compile(
    r"[)\]\"'”’]{0,2}(?:,? ?(?:or|and|/|&) ?[(\[]?[A-Z](?![\w'’-])|, ?[(\[]?[A-Z][)\]]?(?=$|[,.;\n]| and | or ))"
)
_WORDLY = r"[^\W\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u9fff\uac00-\ud7a3]"
"""A letter or digit, but none of Chinese, Japanese, Korean or Thai, where words are joined to a letter."""

_BRACKETED = re.compile(r"(?<![A-Za-z0-9\\])[(\[]([A-Za-z])[)\]]")
_STANDALONE = re.compile(rf"(?<!{_WORDLY}|[.'’°/+-])(?<!\d )([A-Z])(?!{_WORDLY}|['’°/+#-]| ?=|\.\w)")
_ARTICLE = re.compile(r"^(?:an?|the) ", re.IGNORECASE)
_NONE = re.compile(r"\b(?:none|neither) of (?:the|these|them)\b", re.IGNORECASE)

Rule = Callable[[str, Sequence[str]], str]
Mention = tuple[int, Firmness, str]
"""Where a declaration ends, how much it counts, and the letter that it declares."""


def grade(response: str, answers: Sequence[str], choices: Sequence[str], finish_reason: str = "") -> Grade:
    """Judge a multiple-choice answer; gold answers are letters. Unknown options may be A–J."""
    letter = parse(response, choices or UNKNOWN, finish_reason)
    gold = answers if choices else [whole(named_gold, UNKNOWN) for named_gold in answers]
    return Grade(bool(letter) and letter in gold, letter, "parsed" if letter else "unparsed")


def parse(response: str, choices: Sequence[str], finish_reason: str = "") -> str:
    """Return the option letter that an answer names, or ``""``."""
    text = latin(answer(response, finish_reason))
    if letter := _boxed(text, choices):
        return letter
    cut, text = is_cut(text, finish_reason), _unlisted(answer_text.plain(text), choices)
    mentions = sorted([*_explicit(text, choices), *_stated(text, choices)])
    firm = [(end, letter) for end, firmness, letter in mentions if firmness == Firmness.FIRM]
    if firm:
        return corrected(text, *firm[-1], choices)
    if match := _LABELLED.fullmatch(text):
        label, option = whole(match[1], choices), equal(match[2], choices)
        if label and option:  # a label and an option's text, which may be a letter too, say one thing or nothing
            return label if label == option else ""
    if letter := _first((whole, equal, leading), text, choices):
        return letter
    if weak := {letter for _, _, letter in mentions}:
        return weak.pop() if len(weak) == 1 else ""
    return "" if cut else _first((_bracketed, _standalone, _contained), text, choices)


def _first(rules: Iterable[Rule], text: str, choices: Sequence[str]) -> str:
    return next(filter(None, (rule(text, choices) for rule in rules)), "")


def _boxed(text: str, choices: Sequence[str]) -> str:
    for content in map(answer_text.plain, answer_text.boxed(text)):
        if letter := whole(content, choices) or equal(content, choices) or leading(content, choices):
            return letter
    return ""


def _explicit(text: str, choices: Sequence[str]) -> Iterator[Mention]:
    """Yield the letters that are declared with or without "answer": "the answer is B", "B is correct"."""
    for match in deque(_EXPLICIT.finditer(text), DECLARATIONS):
        group = 1 if match[1] else "correct"
        loose = group != 1 and match[group].islower() and not match["option"]
        start, said = (match.start(), match.start(1)) if group == 1 else (match.start(), match.end())
        if not loose:
            yield from _mention(text, start, said, match, group, choices)
    for match in deque(_IS_CORRECT.finditer(text), DECLARATIONS):
        yield from _mention(text, match.start(), match.end(), match, 1, choices)
    for match in deque(_IT_IS.finditer(text), DECLARATIONS):
        if match[1].isupper():
            yield from _mention(text, match.start(), match.start(1), match, 1, choices)


def _stated(text: str, choices: Sequence[str]) -> Iterator[Mention]:
    """Yield the options that stand behind "the answer is", by their letter or their text."""
    for declared in declarations(text):
        if match := _AFTER_HEAD.match(text, declared.end):
            yield from _mention(text, declared.start, declared.end, match, 1, choices)
        said = answer_text.said_at(text, declared.end)
        if letter := equal(said, choices) or equal(_ARTICLE.sub("", said), choices):
            yield declared.end, declared.firmness, letter


def _mention(
    text: str, start: int, said: int, match: re.Match[str], group: int | str, choices: Sequence[str]
) -> Iterator[Mention]:
    """Yield a declared letter unless it is an article, one of several, denied, or said of another case."""
    letter, end = match[group], match.end(group)
    begun = letter in "aA" and listed(text, end)
    if begun or word(text, letter, end, choices) or letter.upper() not in LETTERS[: len(choices)]:
        return
    behind = match.end() if group == "correct" or match.re is _IS_CORRECT else end
    firm = firmness(text, start, said, behind)
    if firm and not doubted(text, start) and not _ANOTHER.match(text, end):
        yield end, firm, letter.upper()


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


def equal(text: str, choices: Sequence[str]) -> str:
    """Return the letter of the one option whose text a text is."""
    said = fold(text)
    equal_to = [index for index, choice in enumerate(choices) if said and fold(answer_text.plain(choice)) == said]
    return LETTERS[equal_to[0]] if len(equal_to) == 1 else ""


def _contained(text: str, choices: Sequence[str]) -> str:
    """Return the letter of the one option whose text is named, not counting one within a longer option's."""
    said = f" {' '.join(text.casefold().split())} "
    # A number is named as the option spells it, or plainly.
    options = [{bare(plain), fold(plain)} - {""} for plain in map(answer_text.plain, choices)]
    if _NONE.search(text) and not any(spelt.startswith("none") for option in options for spelt in option):
        return ""
    named = set()
    for spelt in sorted({spelt for option in options for spelt in option}, key=lambda spelt: (-len(spelt), spelt)):
        if _mentions(said, spelt):
            named.add(spelt)
            said = said.replace(spelt, " \n ")
    indices = [index for index, option in enumerate(options) if option & named]
    return LETTERS[indices[0]] if len(indices) == 1 else ""


def _mentions(said: str, option: str) -> bool:
    """Return whether an option's text stands in a response as words of its own, not negated."""
    number = r"(?<![^\d][-−+])(?<!\d[.,/^])(?<![/^])" if option[0].isdigit() else ""
    matches = re.finditer(rf"(?<!\w){number}{re.escape(option)}(?!\w)(?![.,/]\d)", said)
    return any(
        not _DENIED.search(said[max(0, match.start() - 16) : match.start()])
        and not _DENIED_AFTER.match(said, match.end())
        for match in matches
    )


_DENIED = re.compile(
    r"(?:\bnot|\bno|n['’]t|\bneither|\bnor|\brather than|\binstead of|\bunlike)(?: (?:be|a|an|the))? $"
)
_DENIED_AFTER = re.compile(r"[\"')]{0,2} (?:is|are|was|were|does|do|can|could)(?: not\b|n['’]t\b|(?=not\b))")
