"""From a data set's samples to those that are computed: shown as the model shall see them, flaws out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relope.extract.data.flaws import (
    Flaw,
    Sizes,
    check_unchanged,
    describe,
    find_flaws,
    without_flawed,
    write_skipped,
)
from relope.extract.growth import stored_inputs
from relope.extract.view import View
from relope.store import StoreWriter
from relope.types import Progress, Sample
from relope.words import counted

FurtherFlaws = Callable[[Sequence[Sample], Sizes], list[Flaw]]
"""What else is wrong with samples, e.g. prompts that a model cannot take."""


@dataclass(frozen=True)
class Intake:
    """The samples that are left, and what is wrong with the others."""

    samples: list[Sample]
    flaws: list[Flaw]

    @property
    def note(self) -> str:
        """What is shown at the end of the run, or ``""``."""
        return f"\n{counted(len(self.flaws), 'sample')} skipped ({describe(self.flaws)})" if self.flaws else ""


def take_in(
    samples: Sequence[Sample],
    view: View,
    writer: StoreWriter,
    committed: set[str],
    *,
    strict: bool,
    progress: Progress,
    further: FurtherFlaws = lambda samples, sizes: [],
) -> Intake:
    """Return the samples that can be used, as the model shall see them, and name the others in the store.

    Samples that the store holds already are not looked at again.

    Args:
        samples: of the data set.
        view: how they are shown.
        writer: the store that is written.
        committed: ids that it holds.
        strict: refuse a sample that cannot be used instead of leaving it out.
        progress: told how many images are checked.
        further: looks at the samples that are sound otherwise.

    Raises:
        InvalidInputError: a sample is flawed and ``strict`` is set, none is left, or a sample in the
            store asks something else now.
    """
    ready = view.worded(samples)
    check_unchanged({name: asked for name, (asked, _) in stored_inputs(writer.path).items()}, ready)
    fresh = [sample for sample in ready if sample.id not in committed]
    flaws, sizes = find_flaws(fresh, view.text_only, progress)
    flawed = {flaw.id for flaw in flaws}
    sound = [sample for sample in fresh if sample.id not in flawed]
    flaws += further(sound, sizes)
    left = without_flawed(ready, flaws, strict)
    write_skipped(writer.path, ready, flaws)
    return Intake(view.perturbed(left), flaws)
