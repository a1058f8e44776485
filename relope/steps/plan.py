"""The step ``plan``: what an extraction will cost on disk and in time."""

from dataclasses import replace

from relope.extract.batches import Batches
from relope.extract.bill import draw_up
from relope.extract.data.open import open_dataset
from relope.extract.model.backbone import open_skeleton
from relope.extract.recipe import answer_tokens, make_extras, parse_layers
from relope.extract.timing import time_batches
from relope.spec import PlanSpec
from relope.steps.extract import output
from relope.steps.extraction import check_names, open_model, read_samples
from relope.steps.step import Step
from relope.types import Outcome, Watch


def run(spec: PlanSpec, watch: Watch) -> Outcome:
    """Say what an extraction will cost on disk and, if some samples may be run, in time."""
    check_names(spec)
    dataset = open_dataset(spec.dataset)
    samples = read_samples(dataset, spec, watch)
    backbone = open_model(spec) if spec.measure else open_skeleton(spec.model, spec.device, spec.dtype)
    layers = parse_layers(spec.layers, len(backbone.blocks), backbone.default_layer)
    stored = str(backbone.dtype).removeprefix("torch.") if spec.store_dtype == "auto" else spec.store_dtype
    out = output(spec)
    bill = draw_up(backbone, samples, layers, stored, out, spec.text_only)
    if spec.measure:
        batches = Batches(backbone, layers, answer_tokens(dataset, spec), stored, make_extras(spec), spec.text_only)
        with watch("measure (batches)") as progress:
            timing = time_batches(batches, samples, spec.batch_size or backbone.card.batch_size, spec.measure, progress)
        bill = replace(bill, timing=timing)
    return Outcome(out, False, "\n".join(bill.lines(spec.tokens, out)), bill.facts())


STEP = Step(run, output, version=1)
