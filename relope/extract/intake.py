"""From a data set's samples to those that are computed: captions and perturbations put on, flaws out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError, StoreError
from relope.extract.data import perturb
from relope.extract.data.captions import captioned, read_captions
from relope.extract.data.dataset import DataSet
from relope.extract.data.flaws import Flaw, check_unchanged, describe, find_flaws, without_flawed, write_skipped
from relope.extract.model.backbone import Backbone
from relope.extract.prompt_checks import unreadable_prompts
from relope.spec import ExtractSpec
from relope.store import StoreWriter, read_samples
from relope.types import Progress, Sample


@dataclass(frozen=True)
class Intake:
    """The samples that are left, and what is wrong with the others."""

    samples: list[Sample]
    flaws: list[Flaw]

    @property
    def note(self) -> str:
        """What is shown at the end of the run, or ``""``."""
        return f"\n{len(self.flaws)} samples skipped ({describe(self.flaws)})" if self.flaws else ""


def additions(spec: ExtractSpec) -> dict[str, Any]:
    """Return what captions and perturbations add to a recipe's identity; nothing when there are none.

    Raises:
        InvalidInputError: one of them would have no effect.
        NotFoundError: there is no such captions file, or no such perturbation.
    """
    if spec.captions and not spec.text_only:
        raise InvalidInputError(f"--captions {spec.captions} is only read with --text-only; give both or neither")
    if spec.perturb and spec.text_only:
        raise InvalidInputError(f"--perturb {spec.perturb} changes pictures, which --text-only leaves out; give one")
    found: dict[str, Any] = {}
    if spec.captions:
        found["captions"] = read_captions(spec.captions).identity
    if spec.perturb:
        found["perturbation"] = perturb.parse(spec.perturb).identity
    return found


def origin(spec: ExtractSpec, dataset: DataSet) -> dict[str, str]:
    """Return what a store records so that its samples can be found again as the model saw them."""
    found = {"dataset_source": dataset.source, "perturb": spec.perturb or ""}
    found["captions"] = str(spec.captions.resolve()) if spec.captions else ""
    return {name: value for name, value in found.items() if value}


def load_for(recorded: Mapping[str, Any], dataset: DataSet, splits: Sequence[str]) -> list[Sample]:
    """Return the samples that a store was made from, as the model saw them."""
    samples = [sample for split in splits for sample in dataset.load(split, None)]
    captions = recorded.get("captions")
    return _perturbed(_captioned(samples, Path(captions) if captions else None), recorded.get("perturb"))


def take_in(
    backbone: Backbone,
    samples: Sequence[Sample],
    writer: StoreWriter,
    committed: set[str],
    spec: ExtractSpec,
    progress: Progress,
) -> Intake:
    """Return the samples that can be used, as the model shall see them, and name the others in the store.

    Samples that the store holds already are not looked at again.

    Raises:
        InvalidInputError: a sample is flawed and ``strict`` is set, none is left, or a sample in the
            store asks something else now.
    """
    ready = _captioned(samples, spec.captions)
    if not spec.text_only:
        ready = [replace(sample, caption="") for sample in ready]  # a caption that is not read changes nothing
    check_unchanged(_known_inputs(writer), ready)
    fresh = [sample for sample in ready if sample.id not in committed]
    flaws, sizes = find_flaws(fresh, spec.text_only, progress)
    flawed = {flaw.id for flaw in flaws}
    sound = [sample for sample in fresh if sample.id not in flawed]
    flaws += unreadable_prompts(backbone, sound, sizes, spec.text_only)
    left = without_flawed(ready, flaws, spec.strict)
    write_skipped(writer.path, ready, flaws)
    return Intake(_perturbed(left, spec.perturb), flaws)


def _captioned(samples: Sequence[Sample], captions: Path | None) -> list[Sample]:
    return captioned(samples, read_captions(captions)) if captions else list(samples)


def _perturbed(samples: list[Sample], text: str | None) -> list[Sample]:
    if not text:
        return samples
    parsed = perturb.parse(text)
    return [perturb.perturbed(sample, parsed) for sample in samples]


def _known_inputs(writer: StoreWriter) -> dict[str, str]:
    """Return id → input digest of the samples in a store; parts without that column are passed over."""
    found: dict[str, str] = {}
    for part in writer.sealed():
        try:
            frame = read_samples(writer.path, part, ("id", "input"))
        except StoreError:
            continue
        found.update(frame.select("id", "input").iter_rows())
    return found
