"""The step ``store convert``: a store written anew with another codec, fewer layers or fewer tokens."""

from pathlib import Path

from relope.command_line import command_line, now
from relope.spec import StoreConvertSpec
from relope.steps.step import Step
from relope.steps.store_verbs import folder_of, layer_numbers
from relope.store import convert, human_bytes, info, open_store
from relope.store.made import MadeBy, note_made
from relope.types import Outcome, Watch
from relope.words import counted


def output(spec: StoreConvertSpec) -> Path:
    """Return the new store."""
    return spec.out


def run(spec: StoreConvertSpec, watch: Watch) -> Outcome:
    """Write a store anew."""
    source, layers = folder_of(spec.store), layer_numbers(spec.layers)
    native = spec.dtype == "bfloat16-metadata"
    with watch(f"convert {source.name}") as progress:
        convert(
            source, spec.out, codec=spec.codec, tokens=spec.tokens, layers=layers, bfloat16=native, progress=progress
        )
    note_made(spec.out, [MadeBy(now(), command_line(spec))])
    old, new = info(open_store(source)), info(open_store(spec.out))
    facts = {key: new[key] for key in ("recipe_id", "content_id", "codecs", "n_samples", "bytes")}
    same_content = old["content_id"] == new["content_id"]
    facts |= {"same_content": same_content, "source_bytes": old["bytes"]["total"]}
    sizes = f"{human_bytes(old['bytes']['total'])} → {human_bytes(new['bytes']['total'])}"
    same = "the same content" if same_content else "a subset, of another content_id"
    text = f"{counted(new['n_samples'], 'sample')}, {sizes}, {same} → {spec.out}"
    return Outcome(spec.out, False, text, facts, payload={"path": str(spec.out), **facts})


STEP = Step(run, output, version=1)
