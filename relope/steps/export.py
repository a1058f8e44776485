"""The step ``export``: a relope router as a PEFT adapter folder."""

from pathlib import Path

from relope.errors import InvalidInputError
from relope.probes.protocol import Exports, note_of
from relope.probes.router import load_router
from relope.spec import ExportSpec
from relope.steps.step import Step
from relope.types import Outcome, Watch


def output(spec: ExportSpec) -> Path:
    """Return the adapter's folder."""
    return spec.out


def run(spec: ExportSpec, watch: Watch) -> Outcome:
    """Write a relope router as a PEFT adapter folder."""
    router = load_router(spec.folder)
    if not isinstance(router.probe, Exports):
        of = f"{router.record.method}, {note}" if (note := note_of(router.probe)) else router.record.method
        raise InvalidInputError(f"{spec.folder} holds a router of {of}, which has no adapter")
    n = router.probe.export(spec.out)
    return Outcome(spec.out, False, f"adapter of {n} tensors, and its head → {spec.out}", {"tensors": n})


STEP = Step(run, output, version=1)
