"""A toy step: one specification and one file, which is all that a new step needs."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from relope.fields import KeyValues, Positional, Reads, Spec, Words
from relope.steps import Step
from relope.types import Outcome


class EchoSpec(Spec, step="echo", module="echo_step"):
    """Write words into a file, below those of another."""

    word: Annotated[str, Positional()] = Field(description="what is written")
    before: Annotated[Path | None, Reads()] = Field(None, description="a file whose words come first")
    times: int = Field(1, ge=1, description="how often")
    tags: Words = Field((), description="written behind each word")
    set: Annotated[dict[str, str | int], KeyValues("loud=1")] = Field(default_factory=dict, description="settings")
    out: Path | None = Field(None, description="the file; default runs/<word>.txt")


def output(spec):
    return spec.out or Path("runs") / f"{spec.word}.txt"


def run(spec, watch):
    words = spec.before.read_text().split() if spec.before else []
    words += [" ".join([spec.word, *spec.tags, *(f"{key}={value}" for key, value in spec.set.items())])] * spec.times
    output(spec).parent.mkdir(parents=True, exist_ok=True)
    output(spec).write_text("\n".join(words))
    return Outcome(output(spec), text=f"{len(words)} words → {output(spec)}", facts={"words": len(words)})


STEP = Step(run, output, version=1)
