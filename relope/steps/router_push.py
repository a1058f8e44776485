"""The step ``router push``: a router or a bundle, shared, with a card."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from relope.cards.facts import check_license
from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.locations import Location, as_location
from relope.probes.router import RECORD, Router, load_router
from relope.provenance import file_digest
from relope.serve.bundle import CARD, Bundle, is_bundle, load_bundle, write_manifest
from relope.serve.card import write_card
from relope.spec import RouterPushSpec
from relope.steps.cards import rank_of_router, router_card, told_of
from relope.steps.router_pull import BUNDLE, ROUTER, fingerprint_in
from relope.steps.step import Step
from relope.store import human_bytes
from relope.store.share.folders import push_folder
from relope.store.share.readme import put_readme
from relope.store.share.remote import Remote
from relope.store.share.schemes import open_remote
from relope.types import Outcome, Watch


def output(spec: RouterPushSpec) -> Path:
    """Return what is pushed: nothing is written on this machine."""
    return spec.router


def check(spec: RouterPushSpec) -> None:
    """Refuse a licence that the Hub cannot know."""
    check_license(spec.license)


def run(spec: RouterPushSpec, watch: Watch) -> Outcome:
    """Upload it, unless it is there."""
    check(spec)
    if not (is_bundle(spec.router) or (spec.router / RECORD).is_file()):
        raise NotFoundError(
            f"{spec.router} holds no router and no bundle",
            hint="`relope fit` makes a router, `relope calibrate` a bundle of it",
        )
    if is_bundle(spec.router):
        return _bundle(spec, as_location(spec.uri), watch)
    return _router(spec, as_location(spec.uri), watch)


def _bundle(spec: RouterPushSpec, location: Location, watch: Watch) -> Outcome:
    """Share a bundle; its card is one of its files, made when it was calibrated."""
    if spec.report is not None:
        raise InvalidInputError(
            f"the card of {spec.router} says what the bundle was measured on, not what a report says",
            hint="leave out --report, or push the router that the bundle was made of",
        )
    bundle, remote = load_bundle(spec.router), open_remote(location)
    _check_other(remote, spec)
    with _licensed(spec, bundle) as (folder, named):
        files = {name: (folder if name == CARD else spec.router) / name for name in named.files}
        sent = list[int]()
        with watch("push"):
            changed = push_folder(remote, BUNDLE, folder, files, spec.replace, sent.append)
    facts = {"uri": location.uri, "bundle": bundle.fingerprint, "sent": changed, "n_bytes": sum(sent)}
    text = f"bundle of {bundle.method} for {bundle.model} {_did(changed, sent)} → {location.uri}"
    return Outcome(spec.router, not changed, text, facts, payload=facts, location=location.uri)


@contextmanager
def _licensed(spec: RouterPushSpec, bundle: Bundle) -> Iterator[tuple[Path, Bundle]]:
    """Give the folder that holds the card and the manifest to push: the bundle's, or one where they state a licence."""
    if spec.license is None:
        yield spec.router, bundle
        return
    with TemporaryDirectory(prefix="relope-push-") as name:
        folder = Path(name)
        write_card(folder, bundle, spec.license)
        stated = dataclasses.replace(bundle, files={**bundle.files, CARD: file_digest(folder / CARD)})
        write_manifest(folder, stated)
        yield folder, stated


def _router(spec: RouterPushSpec, location: Location, watch: Watch) -> Outcome:
    """Share a router without a threshold; its card is made now, and is none of the files that count."""
    router, remote = load_router(spec.router), open_remote(location)
    _check_whole(spec.router, router)
    known = rank_of_router(spec.router, router, spec.report)
    files = {name: spec.router / name for name in router.record.files}
    sent = list[int]()
    with watch("push"):
        changed = push_folder(remote, ROUTER, spec.router, files, spec.replace, sent.append)
        card = put_readme(remote, lambda stated: router_card(router, location.uri, known, spec.license or stated))
    facts = {
        "uri": location.uri,
        "router": router.record.fingerprint,
        "sent": changed,
        "n_bytes": sum(sent),
        "card": card,
    }
    lines = [f"router {router.record.method} {_did(changed, sent)} → {location.uri}"]
    lines += told_of(card, "router", location.uri)
    return Outcome(spec.router, not changed, "\n".join(lines), facts, payload=facts, location=location.uri)


def _check_other(remote: Remote, spec: RouterPushSpec) -> None:
    """Refuse to put a bundle over another router that has no bundle.

    Raises:
        StoreError: one is there.
    """
    theirs = remote.read(RECORD)
    if theirs is None or spec.replace or remote.read(BUNDLE.manifest, BUNDLE.most_bytes) is not None:
        return
    if fingerprint_in(theirs.content) not in ("", fingerprint_in((spec.router / RECORD).read_bytes())):
        raise StoreError(
            f"{remote.location.uri} holds another router: nothing was written",
            hint="--replace puts yours in its place, or push to another URI",
        )


def _check_whole(folder: Path, router: Router) -> None:
    """Refuse a router of an older relope, whose files carry no digests: nobody could check them.

    Raises:
        StoreError: it has none.
    """
    if not router.record.files:
        raise StoreError(f"an older relope fitted {folder}, without digests of its files", hint="fit it again")


def _did(changed: bool, sent: list[int]) -> str:
    return f"sent ({human_bytes(sum(sent))})" if changed else "there already"


STEP = Step(run, output, version=1, check=check)
