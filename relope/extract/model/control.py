"""What only a chat template may write: in a question it would end the turn, begin another one or open an image.

Tokenizers find such tokens wherever they stand in a prompt. Samples whose text holds one are skipped and named.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relope.errors import UnsupportedError
from relope.extract.data.turns import Turn
from relope.extract.model.chat import Chat
from relope.extract.model.interfaces import Tokenizer

_BRACKETED = re.compile(r"<<[^<>\n]{1,40}>>|<[^<>\s]{1,40}>|\[/?[A-Z_]{2,20}\]|<｜[^<>\n]{1,40}｜>")
_HTML = re.compile(
    r"</?(?:h[1-6]|table|caption|thead|tbody|tfoot|t[rhd]|blockquote|strong|em|b|i|u|s|sub|sup|code|pre|p|br|ul|ol|li|a)>"
)
"""What Gemma's tokenizers keep whole because it is frequent, not because it means something."""

_SPOKEN = ("0123456789", "9876543210", "1357986420", "8642097531")
_HEADER = re.compile(r"(\n?)[ \t]*(#{2,}[^\n]{1,40}|[A-Z][^\n:]{0,30}:)[ \t]*(?=\n|$)")
_BATCH = 256


@dataclass(frozen=True)
class Controls:
    """What a text must not hold.

    Attributes:
        tokens: id → token that the tokenizer takes for one thing wherever it stands.
        marks: what the template writes between turns in plain text, e.g. ``[INST]`` or ``USER:``.
    """

    tokens: Mapping[int, str]
    marks: tuple[str, ...]

    def mark_in(self, texts: Sequence[str]) -> str:
        """Return the first mark in texts, or ``""``; one that begins a line counts only where a line begins."""
        lined = ["\n" + text for text in texts]
        return next((mark.strip() for mark in self.marks if any(mark in text for text in lined)), "")


def controls_of(tokenizer: Tokenizer, chat: Chat, media: Sequence[str]) -> Controls:
    """Return what texts of a model must not hold.

    Every special token counts, and of the others that a tokenizer was given those that the template writes, that
    mark media, or that are spelt in brackets: ``<tool_call>`` is one; a frequent word, a run of spaces and an HTML
    tag are none. The token for what is unknown stands for any text and ends nothing.

    Args:
        tokenizer: of the model.
        chat: its template.
        media: tokens that stand for an image, video or sound.
    """
    written = list(_between_turns(chat))
    around = "".join([*written, *_before_turns(chat)])
    own: Any = tokenizer
    special = {int(number) for number in own.all_special_ids}
    given: Mapping[int, Any] = getattr(own, "added_tokens_decoder", {})  # of other backends: none
    added = {int(number): str(token) for number, token in given.items()}
    listed = {number: added.get(number, str(own.convert_ids_to_tokens(number))) for number in {*special, *added}}
    named = {getattr(own, f"{kind}_token_id", None) for kind in ("bos", "eos", "pad")}
    unknown = {getattr(own, "unk_token_id", None)} - named
    special |= {number for number, token in given.items() if getattr(token, "special", False)}
    tokens = {
        number: token
        for number, token in listed.items()
        if number not in unknown and token.strip() and (number in special or _is_control(token, around, media))
    }
    return Controls(tokens, tuple(dict.fromkeys(_marks(written, around, tokens.values()))))


def _is_control(token: str, around: str, media: Sequence[str]) -> bool:
    if token in media or token in around:
        return True
    return bool(_BRACKETED.fullmatch(token)) and not _HTML.fullmatch(token)


def _between_turns(chat: Chat) -> Iterator[str]:
    """Yield what a template writes after the turns of a conversation, the longest that it takes."""
    first, reply, second, _ = _SPOKEN
    for turns in ([("user", first), ("assistant", reply), ("user", second)], [("user", first)]):
        if pieces := _cut(chat, turns):
            yield from pieces[1:]
            return


def _before_turns(chat: Chat) -> Iterator[str]:
    """Yield what it writes before the first turn and around a system's text, where it takes one."""
    for turns in ([("user", _SPOKEN[0])], [("system", _SPOKEN[3]), ("user", _SPOKEN[0])]):
        yield from _cut(chat, turns)


def _cut(chat: Chat, turns: Sequence[tuple[str, str]]) -> list[str]:
    """Return what stands before, between and after turns; nothing where the template refuses or drops one."""
    try:
        rest = chat.render([(role, [text]) for role, text in turns])
    except TypeError:  # also where the template refuses the conversation
        return []
    pieces = []
    for _, text in turns:
        before, shown, rest = rest.partition(text)
        if not shown:
            return []
        pieces.append(before)
    return [*pieces, rest]


def _marks(written: Sequence[str], around: str, tokens: Any) -> Iterator[str]:
    """Yield what in a template's own text is neither a token nor a common word: brackets, and headers of roles."""
    known = sorted(tokens, key=len, reverse=True)
    for piece in [*written, around]:
        yield from (mark for mark in _BRACKETED.findall(piece) if mark not in known and not _HTML.fullmatch(mark))
    for piece in written:
        for token in known:
            piece = piece.replace(token, "\0")
        for match in _HEADER.finditer(piece.replace("\0", "")):
            yield f"{match[1]}{match[2]}"


def faults(tokenizer: Tokenizer, chat: Chat, controls: Controls, asked: Sequence[Sequence[Turn]]) -> Iterator[str]:
    """Yield for each conversation why it cannot be put to the model, or ``""``.

    Decided by token ids: the prompt must have the control tokens that the same conversation has with other words.
    """
    neutral: dict[Any, list[int] | str] = {}
    for start in range(0, len(asked), _BATCH):
        prompts = [_rendered(chat, turns) for turns in asked[start : start + _BATCH]]
        sound = [prompt for prompt, fault in prompts if not fault]
        encoded = iter(_controls_in(tokenizer, controls, sound))
        for turns, (_, fault) in zip(asked[start : start + _BATCH], prompts, strict=True):
            if fault:
                yield fault
                continue
            held, shape = next(encoded), tuple((role, tuple(part is None for part in parts)) for role, parts in turns)
            if shape not in neutral:
                neutral[shape] = _neutral(tokenizer, chat, controls, turns)
            yield _fault(tokenizer, controls, turns, held, neutral[shape])


def _rendered(chat: Chat, turns: Sequence[Turn]) -> tuple[str, str]:
    """Return a prompt and ``""``, or ``""`` and why the template makes none."""
    try:
        return chat.render(turns), ""
    except UnsupportedError as error:
        return "", str(error)


def _controls_in(tokenizer: Tokenizer, controls: Controls, prompts: Sequence[str]) -> list[list[int]]:
    """Return the ids of the control tokens of each prompt, in their order."""
    encode: Any = tokenizer
    encoded = encode(list(prompts), add_special_tokens=False)["input_ids"] if prompts else []
    return [[number for number in ids if number in controls.tokens] for ids in encoded]


def _neutral(tokenizer: Tokenizer, chat: Chat, controls: Controls, turns: Sequence[Turn]) -> list[int] | str:
    """Return the control tokens of a conversation in other words, or which of its turns the template leaves out."""
    said = [f"{number}x{number}" for number in range(len(turns))]
    plain = [
        (role, [None if part is None else said[number] for part in parts]) for number, (role, parts) in enumerate(turns)
    ]
    prompt = chat.render(plain)
    lost = [
        role
        for (role, parts), text in zip(turns, said, strict=True)
        if any(part is not None for part in parts) and text not in prompt
    ]
    if lost:
        return f"the chat template of {chat.name} leaves out what {lost[0]} says"
    return _controls_in(tokenizer, controls, [prompt])[0]


def _fault(
    tokenizer: Tokenizer, controls: Controls, turns: Sequence[Turn], held: list[int], expected: list[int] | str
) -> str:
    if isinstance(expected, str):
        return expected
    texts = ["".join(part or "" for part in parts) for _, parts in turns]
    token = controls.mark_in(texts)
    if held != expected:
        own = (controls.tokens[ids[0]] for text in texts if (ids := _controls_in(tokenizer, controls, [text])[0]))
        token = next(own, "a control token")
    return f"its text holds {token}, by which the model's chat template marks turns or images" if token else ""
