"""The step ``store merge``: stores of one recipe united."""

from pathlib import Path

from relope.spec import StoreMergeSpec
from relope.steps.step import Step
from relope.steps.store_verbs import taken
from relope.store.share.pull import merge
from relope.types import Outcome, Watch


def output(spec: StoreMergeSpec) -> Path:
    """Return the store that gets everything."""
    return spec.out


def run(spec: StoreMergeSpec, watch: Watch) -> Outcome:
    """Unite stores of one recipe."""
    with watch("merge (MiB)") as progress:
        return taken(merge(list(spec.stores), spec.out, progress))


STEP = Step(run, output, version=1, grows=True)
