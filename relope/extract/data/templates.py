"""Templates of one's own: the words around a question, and the frame around a conversation; Jinja in its sandbox."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from stat import S_ISREG
from typing import Any

from jinja2 import StrictUndefined, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from relope.errors import InvalidInputError, NotFoundError, reason_of, unknown
from relope.extract.data.flaws import MAX_CHARACTERS
from relope.extract.data.prompts import SELECT
from relope.provenance import digest
from relope.types import LETTERS, Sample

PLACEHOLDERS = ("question", "choices", "options", "letters", "hint", "instruction", "caption")
"""What a prompt template may show of a sample."""

PLAIN = "{% for message in messages %}{{ message['content'] }}{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}"
"""The chat template called ``plain``: the turns' texts, a line each, and nothing around them."""

LARGEST_BYTES = 64 << 10
_FAILURES = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What may go wrong in a template, which computes."""


def read_template(path: Path, what: str) -> str:
    """Return the text of a template file.

    Args:
        path: of the file.
        what: kind of template, for errors.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is no regular file, too large, empty or no UTF-8.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        hint = "give a file; plain is a chat template that is built in" if what == "chat template" else "give a file"
        raise NotFoundError(f"there is no {what} at {path}", hint=hint) from error
    if not S_ISREG(status.st_mode) or status.st_size > LARGEST_BYTES:
        raise InvalidInputError(f"the {what} {path} must be a file of at most {LARGEST_BYTES >> 10} KiB")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"the {what} {path} cannot be read: {reason_of(error)}") from error
    if not text.strip():
        raise InvalidInputError(f"the {what} {path} is empty")
    return text


@dataclass(frozen=True)
class PromptTemplate:
    """The text of the user's turn, in one's own words.

    Attributes:
        text: the template; one newline at its end counts as none.
        name: of its file, for errors.
    """

    text: str
    name: str = "prompt template"

    @property
    def digest(self) -> str:
        """sha256 (hex) of the text: what keys a recipe."""
        return digest(self.text)

    @cached_property
    def named(self) -> frozenset[str]:
        """The placeholders that it has."""
        return _names(self.text, self.name)

    @cached_property
    def _compiled(self) -> Callable[..., str]:
        return _environment().from_string(self.text).render

    def check(self) -> None:
        """Refuse a template that would not ask what the samples ask.

        Raises:
            NotFoundError: a placeholder that there is not.
            InvalidInputError: it is no Jinja, or never shows the question.
        """
        for name in sorted(self.named - set(PLACEHOLDERS)):
            raise unknown(f"placeholder in {self.name}", name, PLACEHOLDERS)
        if "question" not in self.named:
            raise InvalidInputError(
                f"{self.name} never shows the question, so all samples would ask the same",
                hint="write {{ question }} where it shall stand",
            )

    def worded(self, sample: Sample) -> Sample:
        """Return a sample with its turn in these words, or with a flaw that says why there are none."""
        try:
            text = self._compiled(**_values(sample))
        except _FAILURES as error:
            return _flawed(sample, f"{self.name} fails on it: {reason_of(error)}")
        if sample.caption and "caption" not in self.named:
            text = f"{sample.caption}\n{text}"
        if not text.strip() or len(text) > MAX_CHARACTERS:
            return _flawed(sample, f"{self.name} makes {'nothing' if not text.strip() else 'too long a text'} of it")
        return replace(sample, prompt=text)

    def check_options(self, samples: Sequence[Sample]) -> None:
        """Refuse to ask questions with choices without showing them: letters are what counts as right.

        Raises:
            InvalidInputError: the template shows no options, and some samples have them.
        """
        n = sum(bool(sample.choices) for sample in samples)
        if n and not self.named & {"options", "choices"}:
            raise InvalidInputError(
                f"{self.name} shows no options, but {n} of {len(samples)} samples have some",
                hint="write {{ options }} where they shall stand, or leave the choices out of the data",
            )


def open_prompt(path: Path) -> PromptTemplate:
    """Return the prompt template of a file.

    Raises:
        as ``read_template`` and ``PromptTemplate.check``.
    """
    template = PromptTemplate(read_template(path, "prompt template"), path.name)
    template.check()
    return template


def chat_template(ref: str) -> str:
    """Return the text of a chat template: ``plain``, or a file.

    Raises:
        as ``read_template``; and InvalidInputError: it is no Jinja, or shows no messages.
    """
    if ref == "plain":
        return PLAIN
    text = read_template(Path(ref), "chat template")
    if "messages" not in _names(text, Path(ref).name):
        raise InvalidInputError(
            f"the chat template {ref} shows no messages",
            hint="it is Jinja that loops over messages, each with role and content; plain is one that is built in",
        )
    return text


def _values(sample: Sample) -> Mapping[str, Any]:
    letters = LETTERS[: len(sample.choices)]
    return {
        "question": sample.question,
        "choices": list(sample.choices),
        "options": "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters, sample.choices, strict=True)),
        "letters": list(letters),
        "hint": sample.hint,
        "instruction": sample.instruction or (SELECT if sample.choices else ""),
        "caption": sample.caption,
    }


def _flawed(sample: Sample, flaw: str) -> Sample:
    return replace(sample, meta={"flaw": flaw, **sample.meta})


def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )


def _names(text: str, name: str) -> frozenset[str]:
    """Return what a template reads that it does not set itself.

    Raises:
        InvalidInputError: it is no Jinja.
    """
    environment = _environment()
    # A tag of transformers that says which tokens an assistant wrote; it shows what stands in it.
    plain = re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", text)
    try:
        read: Collection[str] = meta.find_undeclared_variables(environment.parse(plain))
    except TemplateError as error:
        line = f" (line {number})" if (number := getattr(error, "lineno", None)) else ""
        raise InvalidInputError(f"{name} is no Jinja template{line}: {reason_of(error)}") from error
    return frozenset(read) - set(environment.globals)
