"""The step ``store verify``: every file of a store held against its digests, and samples against the model."""

from pathlib import Path

from relope.errors import NotFoundError
from relope.spec import StoreVerifySpec
from relope.steps.reopen import open_streams
from relope.steps.step import Step
from relope.steps.store_verbs import folder_of
from relope.store import Problem, open_store, undigested, verify
from relope.types import Outcome, TextTable, Watch
from relope.words import counted


def output(spec: StoreVerifySpec) -> Path:
    """Return the store: nothing is written."""
    return Path(spec.store)


def run(spec: StoreVerifySpec, watch: Watch) -> Outcome:
    """Check every file of a store against its digests; then, where asked, samples against the model."""
    path, told = folder_of(spec.store), []
    problems = verify(path, deep=spec.deep)
    if spec.against_model and not problems:
        problems, line = _against_model(path, spec.against_model)
        told.append(line)
    payload = [vars(problem) for problem in problems]
    if problems:
        rows = [(problem.part, problem.file, problem.what) for problem in problems]
        table = TextTable(f"{spec.store}: {counted(len(problems), 'problem')}", ("part", "file", "what"), rows)
        return Outcome(path, False, "\n".join(told), {}, (table,), payload=payload, failed=True)
    told.append(f"{spec.store}: every file is what was written")
    if unknown := undigested(path):
        told.append(f"not under a digest, in a store of format 1: {', '.join(unknown)}")
    if excluded := open_store(path).excluded:
        told.append(f"{counted(len(excluded), 'sample')} in an earlier part too, not counted again: {excluded}")
    return Outcome(path, False, "\n".join(told), {}, payload=payload)


def _against_model(path: Path, n_samples: int) -> tuple[list[Problem], str]:
    """Compare samples with what the model gives now: one problem a sample that is off, and a line on the worst.

    Raises:
        NotFoundError: the store has no samples.
    """
    from relope.extract.recheck import recheck

    with open_store(path) as store:
        if not store.samples.height:
            raise NotFoundError(f"{store.label} has no samples yet; nothing can be compared")
        checked = recheck(store, open_streams(store), n_samples)
    worst = ", ".join(f"layer {layer}: {value:.2g}" for layer, value in checked.worst.items())
    line = f"{counted(len(checked.samples), 'sample')} run again: largest relative difference {worst}"
    problems = [Problem("", "", f"states of sample {name!r} are not what the model gives") for name in checked.off]
    return problems, f"{line} (allowed {checked.tolerance:g})"


STEP = Step(run, output, version=1)
