"""The step ``extract``: from a data set and a model to a graded store."""

import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relope.command_line import command_line, now
from relope.errors import RelopeError
from relope.extract.data.open import dataset_name
from relope.extract.engine import Computed, Engine, Work, open_engine
from relope.spec import ExtractSpec
from relope.steps.extract_worker import asked_again
from relope.steps.grade import accuracy_text, counted_grader, grade_answers, own_source
from relope.steps.outcomes import Extracted
from relope.steps.outputs import store_path
from relope.steps.step import Step
from relope.store import StoreWriter, check_output, create_or_open, open_store, plan_path
from relope.store.made import MadeBy, Took, note_made
from relope.types import Sample, Watch
from relope.words import counted

if TYPE_CHECKING:
    from relope.extract.extraction import Extraction
    from relope.extract.intake import Intake
    from relope.extract.model.backbone import Backbone

log = logging.getLogger(__name__)


def output(spec: ExtractSpec) -> Path:
    """Return the store's folder."""
    return spec.out or store_path(dataset_name(spec.dataset, spec.name))


def run(spec: ExtractSpec, watch: Watch) -> Extracted:
    """Run a model once over a data set into a store, then grade its answers."""
    from relope.extract.growth import continued
    from relope.steps.extraction import extraction_of, samples_of, settings_of

    extraction, out = extraction_of(spec), output(spec)
    check_output(out)
    if spec.reuse:
        from relope.store.share.pull import check_shared

        check_shared(spec.reuse)  # a mistake is told before anything is written
    samples = samples_of(extraction, watch)
    if spec.endpoint is not None:
        from relope.steps.asking import ask_elsewhere

        return ask_elsewhere(spec, spec.endpoint, continued(extraction, out), samples, out, watch)

    extraction = continued(extraction, out)
    for note in extraction.dataset.notes:
        log.warning("%s", note)
    with closing(open_engine(spec.engine, extraction, settings_of(spec))) as engine:
        return _extract(spec, extraction, engine, samples, out, watch)


@dataclass(frozen=True)
class _Run:
    """What every part of a run needs.

    Attributes:
        extraction: what is computed.
        engine: that computes it.
        backbone: the model as it is known here.
        writer: the store.
        watch: shows progress.
        asked: what a worker in another process opens the same extraction by.
    """

    extraction: "Extraction"
    engine: Engine
    backbone: "Backbone"
    writer: StoreWriter
    watch: Watch
    asked: Mapping[str, Any]


def _extract(
    spec: ExtractSpec, extraction: "Extraction", engine: Engine, samples: Sequence[Sample], out: Path, watch: Watch
) -> Extracted:
    from relope.extract.recipe import make_manifest, save_block  # torch loads here

    backbone = engine.open()
    manifest = make_manifest(backbone, extraction, engine)
    is_new = not out.exists()
    writer = create_or_open(out, manifest, codec=spec.codec)
    writer.sweep()
    save_block(backbone, out, manifest.layers)
    run = _Run(extraction, engine, backbone, writer, watch, asked_again(spec, out))
    with _nothing_left(run, is_new):
        n_reused = _reuse(spec.reuse, run, samples)
        committed = writer.committed()
        intake = _take_in(run, samples, committed)
        facts, text = _compute(run, intake, committed)
    if facts["computed"] or n_reused:
        note_made(out, [MadeBy(now(), command_line(spec), took=_took(spec, run, facts))])
    if extraction.max_new_tokens and not facts["left"]:
        graded = grade_answers(open_store(out), extraction.grader, samples)
        facts |= {key: graded.facts[key] for key in ("accuracy", "grader", "unlabelled")}
        text += f", {accuracy_text(graded.facts, ' by ' + graded.facts['grader'])}"
    if facts["halved"]:
        text += f"; memory ran out {len(facts['halved'])} times and batches were halved (plan.json names them)"
    if spec.reuse:
        facts["reused"] = n_reused
        text = f"{counted(n_reused, 'sample')} taken from {spec.reuse}; {text}"
    return Extracted(out, not facts["computed"], text + intake.note, facts)


@contextmanager
def _nothing_left(run: _Run, is_new: bool) -> Iterator[None]:
    """Remove a new store again when a run is refused that has sealed nothing: it would stand in a mended recipe's way.

    One of several writers cannot know that nothing is coming.
    """
    try:
        yield
    except RelopeError:
        if is_new and run.extraction.shard is None and not run.writer.sealed():
            shutil.rmtree(run.writer.path)
        raise


def _reuse(source: str | None, run: _Run, samples: Sequence[Sample]) -> int:
    """Take what a teammate computed already; return the number of samples."""
    if source is None:
        return 0
    from relope.store.share.pull import reuse

    with run.watch("reuse (MiB)") as progress:
        return reuse(source, run.writer, [sample.id for sample in samples], progress).n_samples


def _take_in(run: _Run, samples: Sequence[Sample], committed: set[str]) -> "Intake":
    """Return the samples that can be used, and warn when their states will not fit on the disk."""
    from relope.extract.bill import estimate, warn_if_full
    from relope.extract.intake import take_in
    from relope.extract.prompt_checks import unreadable_prompts

    extraction, writer = run.extraction, run.writer
    view = extraction.view
    with run.watch("check samples") as progress:
        intake = take_in(
            samples,
            view,
            writer,
            committed,
            strict=extraction.strict,
            progress=progress,
            further=lambda sound, sizes: unreadable_prompts(
                run.backbone, sound, sizes, view.text_only, extraction.room(run.backbone)
            ),
        )
    missing = [sample for sample in intake.samples if sample.id not in committed]
    warn_if_full(estimate(extraction.batches(run.backbone), missing, writer.path), extraction.tokens, writer.path)
    return intake


def _compute(run: _Run, intake: "Intake", committed: set[str]) -> tuple[dict[str, Any], str]:
    """Compute what the store lacks and publish it; return facts about that, and a line of text."""
    from relope.extract.plan import halvings, make_plan, note_halving, read_plan

    writer, backbone, extraction = run.writer, run.backbone, run.extraction
    plan_file, samples = plan_path(writer.path), {sample.id: sample for sample in intake.samples}
    units = make_plan(plan_file, intake.samples, committed, extraction.batch_size(backbone), backbone.hidden_size)
    if extraction.shard is not None:
        ours = set(extraction.shard.of(read_plan(plan_file)))
        units = [unit for unit in units if unit in ours]
    begun = time.perf_counter()
    with run.watch(f"extract {backbone.name}") as progress:
        work = Work(writer, units, samples, lambda ids: note_halving(plan_file, ids), progress, run.asked)
        computed = run.engine.compute(work) if units else Computed(0.0)
    seconds = time.perf_counter() - begun
    left = _left(extraction, intake, writer)
    if not left:
        writer.publish([writer.part_id(unit.ids) for unit in read_plan(plan_file)])
    n = work.n_samples
    speed = f"{counted(n, 'sample')} in {seconds:.1f} s ({n / seconds:.0f}/s)"
    done = speed if n else f"{counted(len(samples) - left, 'sample')} up to date"
    if extraction.shard is not None:
        done = f"shard {extraction.shard}: {done}"
    if left:
        done += f"; {left:,} of {counted(len(samples), 'sample')} are other shards' and not here yet"
    facts = {
        "samples": len(samples),
        "computed": n,
        "left": left,
        "seconds": seconds,
        "seconds_waiting": computed.seconds_waiting,
        "seconds_beside": computed.seconds_beside if extraction.extras.any else 0.0,
        "halved": halvings(plan_file),
        "skipped": [vars(flaw) for flaw in intake.flaws],
        "notes": list(extraction.dataset.notes),
    }
    return facts, f"{done} → {writer.path}"


def _took(spec: ExtractSpec, run: _Run, facts: Mapping[str, Any]) -> Took | None:
    """Return what the answers of a run took; None where it computed nothing."""
    if not facts["computed"]:
        return None
    return Took(
        samples=facts["computed"],
        seconds=round(max(0.0, facts["seconds"] - (facts["seconds_waiting"] or 0.0)), 3),
        seconds_beside=None if facts["seconds_beside"] is None else round(facts["seconds_beside"], 3),
        device=_device(run),
        engine=spec.engine,
        batch_size=run.extraction.batch_size(run.backbone),
    )


def _device(run: _Run) -> str:
    """Return where a run computed, with the name of the card where there is one here."""
    named = str(run.engine.recorded.get("device") or run.backbone.recorded.get("device") or "a server")
    if not named.startswith("cuda"):
        return named
    import torch

    cards = {torch.cuda.get_device_name(device) for device in named.split(",")}
    return f"{named} ({', '.join(sorted(cards))})"


def _left(extraction: "Extraction", intake: "Intake", writer: StoreWriter) -> int:
    """Return how many samples other shards have not sealed here yet; the last of them to end lists and judges all."""
    if extraction.shard is None:
        return 0
    committed = writer.committed()
    return sum(sample.id not in committed for sample in intake.samples)


def grader_of(spec: ExtractSpec) -> list[tuple[str, str]]:
    """Return the grader that answers are judged by when none is named: what the store says, once it is there."""
    if spec.grader is not None or not (output(spec) / "zarr.json").is_file():
        return []
    return [("graders", counted_grader(output(spec)))]


def files_of(spec: ExtractSpec) -> list[Path]:
    """Return the file of a chat template, whose field may say plain as well, and that of the user's own grader."""
    template = [Path(spec.chat_template)] if spec.chat_template and spec.chat_template != "plain" else []
    return [*template, *own_source(spec)]


STEP = Step(run, output, version=1, alone=True, grows=True, reads=files_of, plugins=grader_of)
