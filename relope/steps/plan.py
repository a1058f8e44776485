"""The step ``plan``: what an extraction will cost on disk and in time."""

from dataclasses import replace

from relope.spec import PlanSpec
from relope.steps.extract import output
from relope.steps.step import Step
from relope.types import Outcome, Watch


def run(spec: PlanSpec, watch: Watch) -> Outcome:
    """Say what an extraction will cost on disk and, if some samples may be run, in time."""
    from relope.extract.bill import estimate
    from relope.extract.growth import continued
    from relope.extract.timing import time_batches
    from relope.steps.extraction import extraction_of, samples_of

    extraction, out = extraction_of(spec), output(spec)
    samples = extraction.view.worded(samples_of(extraction, watch))
    extraction = continued(extraction, out)
    backbone = extraction.model.open() if spec.measure else extraction.model.skeleton()
    batches = extraction.batches(backbone)
    bill = estimate(batches, samples, out)
    if spec.measure:
        with watch("measure (batches)") as progress:
            timing = time_batches(batches, samples, extraction.batch_size(backbone), spec.measure, progress)
        bill = replace(bill, timing=timing)
    return Outcome(out, False, "\n".join(bill.lines(extraction.tokens, out)), bill.facts())


STEP = Step(run, output, version=1)
