"""Fusion: a calibrated stack of what states, answer, confidence and question say, after the answer."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from relope.probes.files import load_state
from relope.probes.protocol import Traits
from relope.probes.stack import Stack, StackSettings
from relope.probes.stack_of_one import StackOfOne

VERSION = 4


class Settings(StackSettings):
    """Settings of ``fusion``."""

    methods: tuple[str, ...] = Field(
        ("kernel-probe", "statistics-probe", "kernel-posthoc", "question-confidence", "cascade-logprob"), min_length=1
    )


class Method(Stack):
    """The stack of methods that look before and after the answer; see `Stack`."""

    name: ClassVar[str] = "fusion"
    traits: ClassVar[Traits] = Traits(of_answer=frozenset())
    Params: ClassVar[type[Settings]] = Settings

    @classmethod
    def load(cls, folder: Path) -> Any:
        """Read a router; one of version 1 stays what it was."""
        settings, tensors = load_state(folder)
        return (cls if "members" in settings else StackOfOne).restore(folder, settings, tensors)
