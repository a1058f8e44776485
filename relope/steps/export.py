"""The step ``export``: a relope router as a PEFT adapter folder."""

from pathlib import Path

from relope.errors import InvalidInputError
from relope.probes.protocol import Exports
from relope.probes.router import open_router
from relope.spec import ExportSpec
from relope.steps.step import Step
from relope.types import Outcome, Watch


def output(spec: ExportSpec) -> Path:
    """Return the adapter's folder."""
    return spec.out


def run(spec: ExportSpec, watch: Watch) -> Outcome:
    """Write a relope router as a PEFT adapter folder."""
    router, probe = open_router(str(spec.folder))
    if not isinstance(probe, Exports):
        raise InvalidInputError(f"{spec.folder} holds a router of {router.method}, which has no adapter")
    n = probe.export(spec.out)
    return Outcome(spec.out, False, f"adapter of {n} tensors, and its head → {spec.out}", {"tensors": n})


STEP = Step(run, output, version=1)
