"""The step ``caption``: a data set's images described in words, one line an image."""

from pathlib import Path

from relope.spec import CaptionSpec
from relope.steps.outputs import captions_path
from relope.steps.step import Step
from relope.types import Outcome, Watch


def output(spec: CaptionSpec) -> Path:
    """Return the file of the captions."""
    from relope.extract.data.open import dataset_name

    return spec.out or captions_path(dataset_name(spec.dataset))


def run(spec: CaptionSpec, watch: Watch) -> Outcome:
    """Describe a data set's images in words, one line an image."""
    from relope.extract.captioning import write_captions
    from relope.extract.data.open import open_dataset

    dataset, out = open_dataset(spec.dataset), output(spec)
    with watch(f"caption {dataset.name}") as progress:
        facts = write_captions(dataset, spec, out, progress)
    n, skipped = facts["pictures"] - len(facts["skipped"]), facts["skipped"]
    why = f"; {len(skipped)} skipped ({next(iter(skipped.values()))})" if skipped else ""
    return Outcome(out, not n, f"{n} images described, {facts['known']} were already{why} → {out}", facts)


STEP = Step(run, output, version=1, alone=True)
