"""The step ``caption``: a data set's images described in words, one line an image."""

from pathlib import Path

from relope.extract.captioning import Captioning, write_captions
from relope.extract.data.captions import PROMPT
from relope.extract.data.dataset import check_splits
from relope.extract.data.open import dataset_name, open_dataset
from relope.extract.model.card import open_card
from relope.extract.model.devices import check_device
from relope.spec import CaptionSpec
from relope.steps.outputs import captions_path
from relope.steps.step import Step
from relope.types import Outcome, Watch
from relope.words import counted


def output(spec: CaptionSpec) -> Path:
    """Return the file of the captions."""
    return spec.out or captions_path(dataset_name(spec.dataset, spec.name))


def run(spec: CaptionSpec, watch: Watch) -> Outcome:
    """Describe a data set's images in words, one line an image."""
    captioning, out = _captioning_of(spec), output(spec)
    with watch(f"caption {captioning.dataset.name}") as progress:
        made = write_captions(captioning, out, progress)
    why = f"; {len(made.skipped)} skipped ({next(iter(made.skipped.values()))})" if made.skipped else ""
    text = f"{counted(made.n_new, 'image')} described, {made.n_known} were already{why} → {out}"
    facts = {"images": made.n_new + len(made.skipped), "already": made.n_known, "skipped": made.skipped}
    return Outcome(out, not made.n_new, text, facts)


def _captioning_of(spec: CaptionSpec) -> Captioning:
    """Return what a specification asks for; a misspelt name is told before torch loads."""
    if spec.endpoint is None:
        check_device(spec.device)
        open_card(spec.model)
    dataset = open_dataset(spec.dataset, spec.name, spec.answer_is, allow_outside=spec.allow_outside)
    return Captioning(
        dataset=dataset,
        splits=check_splits(dataset, spec.split),
        limit=spec.limit,
        model=spec.model,
        endpoint=spec.endpoint,
        key_env=spec.api_key_env,
        prompt=spec.prompt or PROMPT,
        max_new_tokens=spec.max_new_tokens,
        workers=spec.workers,
        device=spec.device,
        dtype=spec.dtype,
    )


STEP = Step(run, output, version=1, alone=True)
