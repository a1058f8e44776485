"""The step ``router push``: a bundle, shared."""

from pathlib import Path

from relope.places import as_location
from relope.serve.bundle import load_bundle
from relope.spec import RouterPushSpec
from relope.steps.router_pull import BUNDLE
from relope.steps.step import Step
from relope.store import human_bytes
from relope.store.share.folders import push_folder
from relope.store.share.schemes import open_remote
from relope.types import Outcome, Watch


def output(spec: RouterPushSpec) -> Path:
    """Return the bundle that is pushed: nothing is written on this machine."""
    return spec.bundle


def run(spec: RouterPushSpec, watch: Watch) -> Outcome:
    """Upload it, unless it is there."""
    bundle, location, sent = load_bundle(spec.bundle), as_location(spec.uri), list[int]()
    with watch("push"):
        changed = push_folder(open_remote(location), BUNDLE, spec.bundle, bundle.files, spec.replace, sent.append)
    did = f"sent ({human_bytes(sum(sent))})" if changed else "there already"
    facts = {"uri": location.uri, "bundle": bundle.fingerprint, "sent": changed, "n_bytes": sum(sent)}
    text = f"bundle of {bundle.method} for {bundle.model} {did} → {location.uri}"
    return Outcome(spec.bundle, not changed, text, facts, payload=facts, location=location.uri)


STEP = Step(run, output, version=1)
