"""``relope store …``: what can be done with a store as a whole."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relope.commands import console, share
from relope.errors import InvalidInputError

if TYPE_CHECKING:
    from relope.store import Problem

store_app = typer.Typer(help="Look at, check and share stores.", no_args_is_help=True)
for _verb in (share.push, share.pull, share.ls, share.merge, share.gc):
    store_app.command()(_verb)


@store_app.command()
def info(
    store: Annotated[str, typer.Argument(help="A store.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Show what a store holds: identity, layers, samples, tokens, bytes, accuracy."""
    from relope.reporting import store_facts
    from relope.store import info_rows

    facts = store_facts(_local(store))
    if as_json:
        console.out(json.dumps(facts, indent=2))
        return
    console.table(store, ("", ""), info_rows(facts))


@store_app.command()
def verify(
    store: Annotated[str, typer.Argument(help="A store.")],
    deep: Annotated[bool, typer.Option("--deep", help="Also recompute every sample's content digest.")] = False,
    against_model: Annotated[
        int | None, typer.Option("--against-model", min=1, help="Run so many samples again and compare their states.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Check every file of a store against its digests; exit 2 when something is wrong."""
    from relope.store import ActivationStore
    from relope.store import verify as check

    problems = check(_local(store), deep=deep)
    if against_model and not problems:
        problems = _against_model(_local(store), against_model)
    if as_json:
        console.out(json.dumps([vars(problem) for problem in problems], indent=2))
    elif problems:
        console.table(
            f"{store}: {len(problems)} problems", ("part", "file", "what"), [(p.part, p.file, p.what) for p in problems]
        )
    else:
        console.note(f"{store}: every file is what was written")
        if excluded := ActivationStore.open(store).excluded:
            console.note(f"{len(excluded)} samples are in an earlier part too and do not count again: {excluded}")
    if problems:
        raise typer.Exit(2)


def _against_model(store: Path, n_samples: int) -> "list[Problem]":
    """Compare samples with what the model gives now; one problem a sample that is off."""
    from relope.steps import compare_with_model
    from relope.store import Problem

    found = compare_with_model(store, n_samples)
    worst = ", ".join(f"layer {layer}: {value:.2g}" for layer, value in found.worst.items())
    console.note(
        f"{len(found.samples)} samples run again: largest relative difference {worst} (allowed {found.tolerance:g})"
    )
    return [Problem("", "", f"states of sample {name!r} are not what the model gives") for name in found.off]


@store_app.command()
def convert(
    store: Annotated[str, typer.Argument(help="A store.")],
    out: Annotated[Path, typer.Option("--out", help="The new store.")],
    codec: Annotated[
        Literal["none", "zstd"] | None, typer.Option("--codec", help="How chunks are packed; default: as they are.")
    ] = None,
    tokens: Annotated[
        Literal["lean"] | None, typer.Option("--tokens", help="Keep of the deepest layer only the last tokens.")
    ] = None,
    layers: Annotated[str, typer.Option("--layers", help="Layers to keep, e.g. 23,24; default: all.")] = "",
    dtype: Annotated[
        Literal["uint16", "bfloat16-metadata"],
        typer.Option("--dtype", help="What the metadata call bfloat16; zarr-python 3.1 knows uint16 only."),
    ] = "uint16",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Write a store anew with another codec, fewer layers or fewer tokens."""
    from relope.store import ActivationStore, info
    from relope.store import convert as write_anew

    source = _local(store)
    native = dtype == "bfloat16-metadata"
    with console.progress(f"convert {source.name}") as progress:
        kept = share.layer_numbers(layers)
        write_anew(source, out, codec=codec, tokens=tokens, layers=kept, bfloat16=native, progress=progress)
    old, new = info(ActivationStore.open(source)), info(ActivationStore.open(out))
    facts = {"path": str(out), **{key: new[key] for key in ("recipe_id", "content_id", "codecs", "n_samples", "bytes")}}
    facts |= {"same_content": old["content_id"] == new["content_id"], "source_bytes": old["bytes"]["total"]}
    if as_json:
        console.out(json.dumps(facts, indent=2))
        return
    from relope.store import human_bytes

    sizes = f"{human_bytes(old['bytes']['total'])} → {human_bytes(new['bytes']['total'])}"
    same = "the same content" if facts["same_content"] else "a subset, of another content_id"
    console.note(f"{new['n_samples']} samples, {sizes}, {same} → {out}")


def _local(ref: str) -> Path:
    """Return the folder of a store that must be on this machine or a mount of it."""
    from relope.places import as_place

    place = as_place(ref)
    if place.scheme != "file":
        raise InvalidInputError(
            f"{place.uri} is not on this machine: `relope store ls {place.uri}` shows it, "
            f"`relope store pull {place.uri}` brings it here"
        )
    return Path(place.key) if "://" in ref else Path(ref)
