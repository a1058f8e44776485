"""``relope store push|pull|ls|merge|gc``: stores of a team."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from relope.commands import console
from relope.errors import InvalidInputError

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Uri = Annotated[
    str, typer.Argument(help="s3://…, gs://…, az://…, hf://datasets/…, hf://buckets/…, file:///… or a folder.")
]


def push(store: Annotated[Path, typer.Argument(help="A store.")], uri: Uri, as_json: Json = False) -> None:
    """Share a store: upload what is not there yet. The same command goes on after an interruption."""
    from relope.store.share.push import push as run

    with console.progress("push (MiB)") as progress:
        done = run(store, uri, progress)
    if as_json:
        _print(dataclasses.asdict(done))
        return
    sent = f"{_count(len(done.parts), 'part')} sent ({_size(done.n_bytes)}), {len(done.kept)} there already"
    console.note(f"{sent} → {done.uri}: {_count(done.n_samples, 'sample')} in catalog {done.catalog}")
    if done.differing:
        console.note(
            f"{_count(len(done.differing), 'part')} there differ from yours in the last bits (other hardware computed "
            "them); theirs count, yours stay local"
        )
    if done.besides:
        console.note(f"beside them: {', '.join(done.besides)}")


def pull(
    uri: Uri,
    out: Annotated[Path | None, typer.Option(help="The local store; default runs/<name>.")] = None,
    layers: Annotated[str | None, typer.Option(help="Only these layers, e.g. 23,24.")] = None,
    split: Annotated[str | None, typer.Option(help="Only samples of these splits, e.g. test.")] = None,
    verify: Annotated[bool, typer.Option(help="Check the sha256 of every file.")] = True,
    as_json: Json = False,
) -> None:
    """Take a shared store, or some of it. The same command goes on after an interruption."""
    from relope.store.share.pull import pull as run

    with console.progress("pull (MiB)") as progress:
        done = run(
            uri, out, layers=layer_numbers(layers), splits=_listed(split), verify=verify, progress=progress
        )  # fmt: skip
    _report([done], as_json)


def ls(uri: Uri, as_json: Json = False) -> None:
    """Show what is at a URI: the parts of a store, or the stores of a folder."""
    from relope.store.share.listing import listing

    found = listing(uri)
    if as_json:
        _print(found)
    elif "stores" in found:
        rows = [_row(each) for each in found["stores"]]
        console.table(found["uri"], ("store", "model", "data set", "layers", "samples", "size", "recipe"), rows)
    else:
        parts = [(each["part"], str(each["n_samples"]), _size(each["n_bytes"])) for each in found["parts"]]
        title = f"{found['uri']}: {found['model']} on {found['dataset']}, layers {found['layers']}"
        console.table(f"{title}, {_count(found['n_samples'], 'sample')}", ("part", "samples", "size"), parts)
        if found["unfinished"]:
            console.note(f"{_count(len(found['unfinished']), 'part')} not finished: a push is running, or was given up")


def _row(store: dict[str, Any]) -> tuple[str, ...]:
    name = store["uri"].rpartition("/")[2]
    if "error" in store:
        return (name, f"cannot be read: {store['error']}", "", "", "", "", "")
    layers, size = ",".join(map(str, store["layers"])), _size(store["n_bytes"])
    return (name, store["model"], store["dataset"], layers, str(store["n_samples"]), size, store["recipe_id"][:12])


def merge(
    stores: Annotated[list[str], typer.Argument(help="Two or more stores of one recipe: folders or URIs.")],
    out: Annotated[Path, typer.Option(help="The store that gets everything.")],
    as_json: Json = False,
) -> None:
    """Unite stores of one recipe; of a sample that is in several, the first one given counts."""
    from relope.store.share.pull import merge as run

    with console.progress("merge (MiB)") as progress:
        done = run(stores, out, progress)
    _report(done, as_json)


def gc(
    store: Annotated[str, typer.Argument(help="A store, or a URI.")],
    dry_run: Annotated[bool, typer.Option("--dry-run/--delete", help="List it, or remove it.")] = True,
    hours: Annotated[float, typer.Option(min=0, help="Unfinished pushes count as given up after so long.")] = 24.0,
    as_json: Json = False,
) -> None:
    """List what no reader needs: leftovers of dead processes, given-up pushes, replaced catalogs."""
    from relope.store.share.gc import gc as run

    found = run(store, delete=not dry_run, hours=hours)
    if as_json:
        _print({"store": store, "deleted": not dry_run, "found": [vars(item) for item in found]})
        return
    if found:
        console.table(store, ("file", "size", "why"), [(item.name, _size(item.n_bytes), item.why) for item in found])
    size = _size(sum(item.n_bytes for item in found))
    if not found:
        console.note(f"{store}: nothing to remove")
    elif dry_run:
        console.note(f"{_count(len(found), 'file')} ({size}) can go; nothing was removed, --delete does it")
    else:
        console.note(f"{_count(len(found), 'file')} ({size}) removed")


def _report(done: list[Any], as_json: bool) -> None:
    if as_json:
        results = [{**dataclasses.asdict(each), "path": str(each.path)} for each in done]
        _print(results[0] if len(results) == 1 else {"path": results[0]["path"], "sources": results})
        return
    for each in done:
        added = f"{_count(len(each.parts), 'part')} added ({_count(each.n_samples, 'sample')}, {_size(each.n_bytes)})"
        console.note(f"{added}, {len(each.kept)} there already → {each.path}")
    console.note(f"Try next: relope store info {done[-1].path}")


def layer_numbers(text: str | None) -> tuple[int, ...]:
    """Return the block numbers of ``--layers 23,24``."""
    try:
        return tuple(int(layer) for layer in _listed(text))
    except ValueError as error:
        raise InvalidInputError(f"--layers {text!r} must be block numbers, e.g. --layers 23,24") from error


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _size(n_bytes: int) -> str:
    from relope.store import human_bytes

    return human_bytes(n_bytes)


def _print(value: Any) -> None:
    console.out(json.dumps(value, indent=2))
