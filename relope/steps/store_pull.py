"""The step ``store pull``: a shared store, or some of it, brought here."""

from pathlib import Path

from relope.locations import as_location
from relope.spec import StorePullSpec
from relope.steps.outputs import RUNS
from relope.steps.step import Step
from relope.steps.store_verbs import layer_numbers, taken
from relope.store.share.pull import pull
from relope.types import Outcome, Watch


def output(spec: StorePullSpec) -> Path:
    """Return the local store."""
    return spec.out or RUNS / as_location(spec.uri).name


def run(spec: StorePullSpec, watch: Watch) -> Outcome:
    """Take a shared store, or some of it."""
    with watch("pull (MiB)") as progress:
        done = pull(
            spec.uri, output(spec), layers=layer_numbers(spec.layers), splits=spec.split, verify=spec.verify,
            progress=progress,
        )  # fmt: skip
    return taken([done])


STEP = Step(run, output, version=1, grows=True)
