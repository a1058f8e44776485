"""The step ``router pull``: a shared bundle, brought here and checked."""

from pathlib import Path

from relope.errors import InvalidInputError
from relope.places import as_location
from relope.serve.bundle import MANIFEST, MOST_BYTES, load_bundle, read_manifest
from relope.serve.card import promise_text
from relope.spec import RouterPullSpec
from relope.steps.outputs import RUNS
from relope.steps.step import Step
from relope.store.share.folders import Whole, pull_folder
from relope.store.share.schemes import open_remote
from relope.types import Outcome, Watch

BUNDLE = Whole("bundle", MANIFEST, MOST_BYTES)


def output(spec: RouterPullSpec) -> Path:
    """Return the local bundle."""
    return spec.out or RUNS / as_location(spec.uri).name


def run(spec: RouterPullSpec, watch: Watch) -> Outcome:
    """Take a shared bundle.

    Raises:
        InvalidInputError: something stands where it would go.
    """
    out, location = output(spec), as_location(spec.uri)
    if out.exists():
        raise InvalidInputError(f"{out} is there already", hint="give another --out, or move it away")
    with watch("pull"):
        pull_folder(open_remote(location), BUNDLE, out, lambda folder: read_manifest(folder).files, load_bundle)
    bundle = load_bundle(out)
    told = f"bundle of {bundle.method} for {bundle.model} → {out}\npromised: {promise_text(bundle)}"
    facts = {"bundle": bundle.fingerprint, "model": bundle.model, "threshold": bundle.threshold}
    return Outcome(out, False, told, facts)


STEP = Step(run, output, version=1)
