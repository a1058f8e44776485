"""Fusion Prefill: a calibrated stack of what is known before the answer, for routers that exit early."""

from typing import ClassVar

from pydantic import Field

from relope.probes.protocol import Traits
from relope.probes.stack import Stack, StackSettings

VERSION = 3


class Settings(StackSettings):
    """Settings of ``fusion-prefill``."""

    methods: tuple[str, ...] = Field(("kernel-probe", "statistics-probe", "question-kind"), min_length=1)


class Method(Stack):
    """The stack of methods that look at the prompt alone; see `Stack`."""

    name: ClassVar[str] = "fusion-prefill"
    traits: ClassVar[Traits] = Traits(reads_answer=False)
    Params: ClassVar[type[Settings]] = Settings
