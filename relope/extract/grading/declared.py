"""Where a response declares its answer ("the answer is …"), and whether it means it.

A firm declaration is not overruled by what is said later of other cases: "if it had wings, the answer would be
C", "a common wrong answer is A" and "so the answer is A?" declare nothing; "the answer should be B" declares
something only where nothing is declared firmly.
"""

import re
import unicodedata
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

_WORD = (
    r"(?: (?!(?:not|never|no|non|não|nicht|kein\w*|niet|nie|не|inte|ikke|ei|bukan|không)\b"
    r"|isn)[^\s:=.,;!?()\d]{1,20})"
)
_NEXT = r"(?= ?[\"'“«(\[]{0,2}[A-Z](?![\w'’]))"
"""An option's letter comes next."""

_HEADS = (
    r"\b(?:answers?|results?|ans)\b(?: (?!(?:not|never|cannot|[a-z]{2,6}n['’]t|can['’]t)\b)[A-Za-z'’]{1,20}){0,6}? ?"
    rf"(?::|=|->|→|[-–—]{_NEXT}|\b(?:is|are|was|be|equals)\b(?! not\b|n['’]t))",
    rf"\b(?:respuesta|resposta|risposta|réponse){_WORD}{{0,5}}? ?(?::|=|\b(?:es|é|è|est)\b(?! (?:no|pas|não|non)\b))",
    rf"\b(?:antwort|lösung|antwoord|svaret?|vastaus){_WORD}{{0,5}}? ?"
    r"(?::|=|\b(?:ist|lautet|is|är|er|on)\b(?! (?:nicht|niet|inte|ikke|ei)\b))",
    rf"\b(?:odpowied[źz]|odpowiedzią|odpověď){_WORD}{{0,4}}? ?(?::|=|\b(?:to|jest|je)\b(?! nie\b)|{_NEXT})",
    rf"\b(?:ответ|відповідь|отговор)\w{{0,3}}{_WORD}{{0,3}}? ?(?::|=|[-–—]|\b(?:это|є|е)\b(?! не\b)"
    r"|(?=[\"«(]?[А-ЯA-Z](?!\w)))",
    rf"\b(?:cevap|cevabı|yanıt)\w{{0,4}}{_WORD}{{0,2}}? ?(?::|=|(?=[\"'(]?[A-Z](?!\w)))",
    rf"\bjawaban\w{{0,4}}{_WORD}{{0,4}}? ?(?::|=|\b(?:adalah|ialah|yaitu)\b(?! bukan))",
    rf"(?:đáp án|câu trả lời){_WORD}{{0,4}}? ?(?::|=|\blà\b(?! không))",
    rf"(?:απάντηση|răspunsul|válasz){_WORD}{{0,3}}? ?(?::|=|\b(?:είναι|este|e)\b|{_NEXT})",
    rf"(?:الإجابة|الاجابة|الجواب|التشובה|התשובה|پاسخ){_WORD}{{0,3}}? ?(?::|=|هي|هو|היא|הוא|{_NEXT})",
    rf"(?:उत्तर|जवाब){_WORD}{{0,2}}? ?(?::|=|है|{_NEXT})",
    r"คำตอบ(?:ที่ถูกต้อง(?:ที่สุด)?)? ?(?:คือ|:)",
    r"(?:答案|正解|解答|回答|答え?)(?:应该|應該|应|應|の選択肢|の記号)?就?(?:是|为|為|选|選|は|:)(?!不)",
    r"(?:故|应|應|所以|因此|我)(?:应|應)?(?:选|選)(?:择|擇)?项?(?:是|为|為)?:?(?= ?[(]?[A-Z])",
    r"(?:정답|해답|답변|답)(?:은|는|이)?(?: ?:|(?<=[은는이]))",
)
_STATED = re.compile(unicodedata.normalize("NFKC", "|".join(_HEADS)), re.IGNORECASE)

DECLARATIONS = 200
"""So many are looked at, from the last one back."""

_SENTENCE_BEGIN = re.compile(r".*(?:[.!?](?=\s)|[。\n])", re.DOTALL)
_PREFIX_CHARACTERS = 160
_SENTENCE_END = re.compile(r"[.!?](?=\s|$|[\"'”’)\]])|[。\n]")
_ASKED = re.compile(r"[\"'”’)\]]{0,3} ?\?")
_ASKING = re.compile(
    r"[\s\"'(]*(?:is|are|was|could|would|might|can|may|does|do|should|why|what|how|whether|or)\b", re.IGNORECASE
)
_IF = re.compile(
    r"\b(?:if|unless|suppos(?:e|ed|ing)|assum(?:e|ing)|imagine|provided|whether|otherwise"
    r"|hypothetically|had (?:it|the|this"
    r"|that|there|we|they)|were (?:it|the|this|that|there|we|they)|wenn|falls|si|sino|se|als|indien"
    r"|jeśli|jeżeli|gdyby"
    r"|если|якщо|nếu|jika|kalau|eğer|αν)\b|如果|若|假如|倘若|要是|もし|なら|만약|만일|यदि|अगर|ถ้า|หาก|إذا|لو|אם",
    re.IGNORECASE,
)
_FOR = (
    r"(?:(?:only|just|mainly|solely) (?:for|if|in|when|where|with)\b"
    r"|\b(?:in|on|of|about) (?:an? )?(?:other|others|another|different|some)\b|\b(?:for|in case|when|whenever"
    r"|with|without|under|among)"
    r"\b(?! (?:this|these|that|our|your|me\b|example|instance|the (?:given|above|following|question"
    r"|image|picture|photo"
    r"|problem|reason|same|diagram|figure|chart|graph|first|second|last|next|sake))))"
)
_FOR_A_CASE = re.compile(_FOR, re.IGNORECASE)
_NOUN_AFTER = re.compile(r"^[ )\]\"',]{0,4}(?:answer|option|choice|one)?,? ?", re.IGNORECASE)
_CASE_BEFORE = re.compile(rf"(?:^|[:;(,])\s*{_FOR}", re.IGNORECASE)
_OF_OTHERS = re.compile(
    r"\b(?:people|students?|pupils|some|many|most|others?|someone|somebody|anyone|one|you|users?"
    r"|beginners|they|he|she)\b"
    r"[^.;:,]{0,60}\b(?:sa(?:y|ys|id)|think|thinks|thought|believed?s?|assumed?s?|guess(?:es|ed)?"
    r"|argued?s?|claim(?:s|ed)?"
    r"|conclude[sd]?|answer(?:s|ed)?)\b[^.;:]{0,16}$",
    re.IGNORECASE,
)
_OTHER_NOUN = re.compile(
    r"\b(?:common|popular|frequent|tempting|other|another|alternative|possible|plausible|second|next"
    r"|previous|earlier|first"
    r"|initial|original|their|his|her|likely(?= wrong))[\w -]{0,20}$",
    re.IGNORECASE,
)
_WRONG_NOUN = re.compile(
    r"\b(?:wrong|incorrect|false|mistaken|erroneous|falsche?|mauvaise|incorrecta|errada|sbagliata"
    r"|неправильный|неверный)\b"
    r"(?: (?!(?:and|so|but|then|hence|thus|therefore|because|since|the|while)\b)[\w'-]+){0,3} ?$"
    r"|\b(?:mistake|mistakenly|wrongly|incorrectly|erroneously|tempting|distractor|trap)\b[^.;:]{0,30}$"
    r"|错误(?:的|答案)*$|不正确的?$|오답$|틀린 ?$",
    re.IGNORECASE,
)
_MODAL = re.compile(r"\b(?:would|might|could|may)\b", re.IGNORECASE)
_SOFT = re.compile(r"\b(?:should|must|can|shall|was|were)\b", re.IGNORECASE)


_UNREAL = re.compile(r"\b(?:were|had)\b", re.IGNORECASE)
_DENIED_BEFORE = re.compile(
    r"(?:\bnot|n['’]t be|\bnever|\brather than|\binstead of)(?: (?:be|is|option|choice|answer))? ?[$(\\*\[]{0,4}$",
    re.IGNORECASE,
)
_CLAUSE_BEFORE = re.compile(r"^.*\\f?boxed\{[^{}]{0,80}\}", re.DOTALL)
_MARKUP = re.compile(r"^[\s$)\]\\*}.,]{0,6}")


class Firmness(IntEnum):
    """How much a declaration counts: the last of the firmest does."""

    NONE = 0
    WEAK = 1
    FIRM = 2


@dataclass(frozen=True)
class Declaration:
    """A place where a response says what its answer is.

    Attributes:
        start: where "answer" begins.
        end: where what is declared begins.
        firmness: whether it is meant.
    """

    start: int
    end: int
    firmness: Firmness


def declarations(text: str) -> Iterator[Declaration]:
    """Yield the places where a text declares an answer and means it, in their order."""
    for match in deque(_STATED.finditer(text), DECLARATIONS):
        firm = firmness(text, match.start(), match.end(), match.end())
        if firm:
            yield Declaration(match.start(), match.end(), firm)


def declaration(text: str) -> Declaration | None:
    """Return the declaration that counts: the last of the firmest."""
    last: Declaration | None = None
    for candidate in declarations(text):
        if last is None or candidate.firmness >= last.firmness:
            last = candidate
    return last


def firmness(text: str, start: int, said: int, end: int) -> Firmness:
    """Return how much a declaration counts.

    Args:
        text: all of the response.
        start: where the declaration begins ("answer", or an option's letter).
        said: where its verb has ended.
        end: where the letter has ended; of a declaration that is not looked at further, equal to ``said``.
    """
    before, middle, after = _sentence_before(text, start), text[start:said], _sentence_after(text, end)
    if _WRONG_NOUN.search(before) or _WRONG_NOUN.search(middle) or _asked(before, text, end, len(after)):
        return Firmness.NONE
    if _MODAL.search(middle) and hypothetical(before, after):
        return Firmness.NONE
    doubts = _MODAL.search(middle) or _SOFT.search(middle) or hypothetical(before, after) or _FOR_A_CASE.search(middle)
    doubts = doubts or _CASE_BEFORE.search(before) or _FOR_A_CASE.match(_NOUN_AFTER.sub("", after))
    if doubts or _OF_OTHERS.search(before) or _OTHER_NOUN.search(before):
        return Firmness.WEAK
    return Firmness.FIRM


def imagined(text: str, start: int) -> bool:
    """Return whether what stands at a place is said of another case: "if it had wings, it would be …"."""
    before = _sentence_before(text, start)
    return bool(_WRONG_NOUN.search(before) or (_MODAL.search(before) and _IF.search(before)))


def counterfactual(text: str, start: int, end: int) -> bool:
    """Return whether what stands between two places is denied, or said of a case that is not this one.

    "It would be … if it were round", "had it been round, then …" and "rather than …"; a plain condition ("if x = 2,
    then …") is a step of a thought.
    """
    before, after = _sentence_before(text, start), _sentence_after(text, end)
    before = _CLAUSE_BEFORE.sub("", before)
    if _DENIED_BEFORE.search(before):
        return True
    unreal = _MODAL.search(before) or _UNREAL.search(before) or _MODAL.match(_MARKUP.sub("", after))
    others = _IF.search(before) or _CASE_BEFORE.search(before) or _FOR_A_CASE.match(before.lstrip())
    return bool(unreal and (others or _IF.search(after)))


def hypothetical(before: str, after: str) -> bool:
    """Return whether a condition stands before a declaration, or right behind it."""
    return bool(_IF.search(before) or _IF.match(_NOUN_AFTER.sub("", after[:60])))


def _asked(before: str, text: str, end: int, length: int) -> bool:
    """Return whether a declaration is a question."""
    if _ASKED.match(text, end):
        return True
    return text[end + length : end + length + 1] == "?" and (length < 12 or bool(_ASKING.match(before)))


def _sentence_before(text: str, start: int) -> str:
    before = text[max(0, start - _PREFIX_CHARACTERS) : start]
    match = _SENTENCE_BEGIN.match(before)
    return before[match.end() :] if match else before


def _sentence_after(text: str, end: int) -> str:
    after = text[end : end + 2 * _PREFIX_CHARACTERS]
    match = _SENTENCE_END.search(after)
    return after[: match.start()] if match else after
