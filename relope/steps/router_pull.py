"""The step ``router pull``: a shared router or bundle, brought here and checked."""

import json
from collections.abc import Mapping
from pathlib import Path

from relope.errors import InvalidInputError, StoreError
from relope.locations import as_location
from relope.probes.router import RECORD, load_router, read_record
from relope.serve.bundle import MANIFEST, MOST_BYTES, load_bundle, read_manifest
from relope.serve.card import promise_text
from relope.spec import RouterPullSpec
from relope.steps.outputs import RUNS
from relope.steps.step import Step
from relope.store.share.folders import Whole, pull_folder
from relope.store.share.schemes import open_remote
from relope.types import Outcome, Watch

BUNDLE = Whole("bundle", MANIFEST, MOST_BYTES)
ROUTER = Whole("router", RECORD, MOST_BYTES)


def output(spec: RouterPullSpec) -> Path:
    """Return the local folder."""
    return spec.out or RUNS / as_location(spec.uri).name


def run(spec: RouterPullSpec, watch: Watch) -> Outcome:
    """Take a shared bundle, or a router where there is none.

    Raises:
        InvalidInputError: something stands where it would go.
    """
    out, remote = output(spec), open_remote(as_location(spec.uri))
    if out.exists():
        raise InvalidInputError(f"{out} is there already", hint="give another --out, or move it away")
    record = remote.read(RECORD, MOST_BYTES) if remote.read(MANIFEST, MOST_BYTES) is None else None
    is_router = record is not None and fingerprint_in(record.content) != ""
    with watch("pull"):
        if is_router:
            pull_folder(remote, ROUTER, out, _files, load_router)
        else:
            pull_folder(remote, BUNDLE, out, lambda folder: read_manifest(folder).files, load_bundle)
    return _router(out) if is_router else _bundle(out)


def fingerprint_in(record: bytes) -> str:
    """Return the fingerprint in a router's record, ``""`` where there is none, as of a push that was cut off."""
    try:
        value = json.loads(record)
    except (ValueError, RecursionError):
        return ""
    return str(value.get("fingerprint", "")) if isinstance(value, dict) else ""


def _files(folder: Path) -> Mapping[str, str]:
    """Return name → sha256 of a router's files, as its record says.

    Raises:
        StoreError: the record names none.
    """
    record = read_record(folder)
    digests = {} if record is None else {name: _digest(of) for name, of in record.files.items()}
    if not digests or "" in digests.values():
        raise StoreError("the record of the router does not name its files by digest", hint="fit and push it again")
    return digests


def _digest(of: object) -> str:
    return str(of.get("sha256", "")) if isinstance(of, dict) else ""


def _router(out: Path) -> Outcome:
    record = load_router(out).record
    told = f"router {record.method}, fitted on {record.n_samples:,} samples of {record.dataset} → {out}"
    return Outcome(out, False, told, {"router": record.fingerprint, "method": record.method})


def _bundle(out: Path) -> Outcome:
    bundle = load_bundle(out)
    told = f"bundle of {bundle.method} for {bundle.model} → {out}\npromised: {promise_text(bundle)}"
    facts = {"bundle": bundle.fingerprint, "model": bundle.model, "threshold": bundle.threshold}
    return Outcome(out, False, told, facts)


STEP = Step(run, output, version=1)
