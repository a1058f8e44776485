"""What a model says after it has thought; a thought that never ended says nothing.

A thought stands between tags of its own (``<think>``, ``<reasoning>``, ``[THINK]``, ``◁think▷``, the channels of
harmony …); its opening tag may stand in the prompt, so that an answer begins in the middle of it.
"""

import re

LENGTH = "length"
"""The ``finish_reason`` of an answer that ran into the limit of tokens."""

_MUSING = re.compile(
    r"\b(?:hmm+|wait|hold on|let me (?:re-?check|double[- ]check|think again|re-?think|re-?consider))\b[,.!:]?"
    r"|\A\s*(?:(?:okay|ok|alright),? (?:so|let)\b|let['’]s see|the user (?:is|wants|asks|asked)|got it)",
    re.IGNORECASE,
)
"""What a model says to itself and to nobody else."""

_NAMES = (
    r"think(?:ing)?|thoughts?|reason(?:ing|s)?|reflect(?:ion)?|self_reflection|scratch_?pad|analysis"
    r"|cot|chain[_-]of[_-]thought|inner_?(?:monologue|thoughts?|voice)|internal_(?:monologue|thoughts?|reasoning)"
    r"|rationale|deliberation|planning|ant_?thinking"
)
_TAG = re.compile(
    r"(?:<|&lt;)\|?(?P<closes>/|end_(?:of_)?)?(?:begin_(?:of_)?|start_(?:of_)?|[a-z]{1,10}:)?"
    rf"(?P<name>{_NAMES})(?P<part>[_-](?:start|begin|end|process|content|block|trace|steps?))?"
    r"(?:\s[^<>\n]{0,80})?/?\|?(?:>|&gt;)"
    r"|\[(?P<closes2>/)?(?P<name2>think(?:ing)?|reasoning|thoughts?|analysis)\]"
    r"|\[(?P<answers>(?:final[ _]?)?(?:answer|response|solution|conclusion))\]"
    r"|[◁⟨〈](?P<closes3>/)?(?P<name3>think(?:ing)?|thoughts?)[▷⟩〉]"
    r"|(?P<opens4><\|?channel\|?> ?(?:analysis|commentary|thought|thinking)\b(?: ?<\|message\|>)?"
    r"|<\|im_start\|> ?think\b|<unused94>)"
    r"|(?P<closes4><\|?channel\|?> ?final\b(?: ?<\|message\|>)?|<channel\|>|<\|im_start\|> ?answer\b|<unused95>"
    r"|\bassistantfinal(?![a-z]))",
    re.IGNORECASE,
)
SQUARE = ("[reaso]", "[analy]")
"""Thoughts that begin with a heading in square brackets; the heading of the answer ends them, or its line."""

_ANSWER_LINE = re.compile(r"^[\W_]{0,4}(?:final )?answer\b\W{0,3}[:=]", re.IGNORECASE | re.MULTILINE)

_BEGUN = re.compile(
    r"\s*(?:(?P<harmony>analysis)(?=[A-Z])|(?:\*\*)?here(?:['’]s| is) my (?:thought|thinking|reasoning) process:?"
    r"|<(?:summary|caption)>)",
    re.IGNORECASE,
)
"""A thought without tags of its own: harmony's channel without its special tokens, Granite's and LLaVA-CoT's words."""

_ENDED = re.compile(r"\bhere(?:['’]s| is) my (?:response|(?:final )?answer):?|<(?:conclusion|answer)>", re.IGNORECASE)
_ANSWERS = re.compile(r"<(answer|final_?answer|conclusion)>([^<>]{1,400})</\1>", re.IGNORECASE)
_ANSWER_LAST = re.compile(
    r"<(?P<tag>answer|final_?answer|conclusion)>(?P<said>(?:(?!</?(?:answer|think)).){1,2000})</(?P=tag)>\s*$",
    re.IGNORECASE | re.DOTALL,
)
"""An answer in tags of its own at the very end: it ends a thought whose closing tag was forgotten."""


def spoken(response: str, finish_reason: str = "") -> str:
    """Return what a response says outside its thoughts; ``""`` where a thought never ended, or nothing follows it.

    A thought that the prompt opened has no tag when it ran into the limit of tokens; its words tell it then.
    """
    if match := _ANSWER_LAST.search(response, max(0, len(response) - 4_000)):
        return match["said"].strip()
    said = _outside(response, finish_reason)
    tagged = _ANSWERS.findall(said) if "</" in said else []
    return tagged[-1][1].strip() if tagged else said


def _outside(response: str, finish_reason: str) -> str:
    response = _unbegun(response)
    said, start, open_names = [], 0, list[str]()
    for match in _TAG.finditer(response):
        closes, name = _read(match)
        if not open_names:
            said.append(response[start : match.start()])
        if match["answers"]:
            open_names = [name for name in open_names if name not in SQUARE]
        elif not closes:
            open_names += [name] if name not in open_names else []
        elif not open_names:
            said.clear()  # the thought was opened in the prompt
        elif name in open_names:
            del open_names[open_names.index(name) :]
        start = match.end()
    if open_names and set(open_names) <= set(SQUARE) and (lines := list(_ANSWER_LINE.finditer(response, start))):
        return response[lines[-1].start() :].strip()
    if open_names or (finish_reason == LENGTH and not start and _MUSING.search(response)):
        return ""
    return "\n".join([*said, response[start:]]).strip()


def _unbegun(response: str) -> str:
    """Return a response with a tag before a thought that begins without one, and one behind it."""
    match = _BEGUN.match(response)
    if match is None or (match["harmony"] and response[:1].isupper()):
        return response
    if match["harmony"]:
        return f"<think>{re.sub(r'assistantfinal', '</think>', response[match.end() :])}"
    return f"<think>{_ENDED.sub('</think>', response[match.end() :], count=1)}"


def _read(match: re.Match[str]) -> tuple[bool, str]:
    """Return whether a tag closes a thought, and of which kind it is: thinking is closed as think or thought."""
    if match["opens4"] or match["closes4"]:
        return bool(match["closes4"]), "channel"
    name = (match["name"] or match["name2"] or match["name3"] or "").casefold()
    ends = match["closes"] or match["closes2"] or match["closes3"] or (match["part"] or "").endswith("end")
    kind = "th" if name.startswith("th") else name[:5]
    return bool(ends), f"[{kind}]" if match["name2"] and not kind.startswith("th") else kind
