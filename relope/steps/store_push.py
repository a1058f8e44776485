"""The step ``store push``: what is not there yet, uploaded."""

import dataclasses
from pathlib import Path

from relope.spec import StorePushSpec
from relope.steps.step import Step
from relope.store import human_bytes
from relope.store.share.push import push
from relope.types import Outcome, Watch
from relope.words import counted


def output(spec: StorePushSpec) -> Path:
    """Return the store that is pushed: nothing is written on this machine."""
    return spec.store


def run(spec: StorePushSpec, watch: Watch) -> Outcome:
    """Upload what is not there yet."""
    with watch("push (MiB)") as progress:
        done = push(spec.store, spec.uri, progress)
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
    facts = dataclasses.asdict(done)
    return Outcome(spec.store, not done.parts, "\n".join(lines), facts, payload=facts, location=done.uri)


STEP = Step(run, output, version=1)
