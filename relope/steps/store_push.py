"""The step ``store push``: what is not there yet, uploaded, with a card."""

import dataclasses
from pathlib import Path

from relope.cards.facts import check_license
from relope.locations import as_location
from relope.spec import StorePushSpec
from relope.steps.cards import ranks_of_store, store_card, told_of
from relope.steps.step import Step
from relope.store import human_bytes, open_store
from relope.store.share.push import push
from relope.store.share.readme import put_readme
from relope.store.share.schemes import open_remote
from relope.types import Outcome, Watch
from relope.words import counted


def output(spec: StorePushSpec) -> Path:
    """Return the store that is pushed: nothing is written on this machine."""
    return spec.store


def check(spec: StorePushSpec) -> None:
    """Refuse a licence that the Hub cannot know."""
    check_license(spec.license)


def run(spec: StorePushSpec, watch: Watch) -> Outcome:
    """Upload what is not there yet."""
    check(spec)
    known = ranks_of_store(spec.store, spec.report)  # a mistake in the report is told before anything is sent
    with watch("push (MiB)") as progress:
        done = push(spec.store, spec.uri, progress)
    with open_store(done.uri) as shared:
        card = put_readme(
            open_remote(as_location(done.uri)),
            lambda stated: store_card(shared, done.uri, known, spec.license or stated),
        )
    sent = f"{counted(len(done.parts), 'part')} sent ({human_bytes(done.n_bytes)}), {len(done.kept)} there already"
    lines = [f"{sent} → {done.uri}: {counted(done.n_samples, 'sample')} in catalog {done.catalog}"]
    if done.differing:
        lines.append(
            f"{counted(len(done.differing), 'part')} there differ from yours in the last bits (other hardware computed "
            "them); theirs count, yours stay local"
        )
    if done.besides:
        lines.append(f"beside them: {', '.join(done.besides)}")
    if done.left_out:
        lines.append(
            f"not sent: {', '.join(done.left_out)}, which an older relope wrote without digests, so that nobody can "
            "say whether it is whole; delete it and run the same extract again to make it anew"
        )
    lines += told_of(card, "store", done.uri)
    facts = {**dataclasses.asdict(done), "card": card}
    return Outcome(spec.store, not done.parts, "\n".join(lines), facts, payload=facts, location=done.uri)


STEP = Step(run, output, version=1, check=check)
