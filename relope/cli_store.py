"""``relope store …``: what can be done with a store as a whole."""

import json
from pathlib import Path
from typing import Annotated

import typer

from relope import cli_share, console
from relope.errors import InvalidInputError

store_app = typer.Typer(help="Look at, check and share stores.", no_args_is_help=True)
for _verb in (cli_share.push, cli_share.pull, cli_share.ls, cli_share.merge, cli_share.gc):
    store_app.command()(_verb)


@store_app.command()
def info(
    store: Annotated[str, typer.Argument(help="A store.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Show what a store holds: identity, layers, samples, tokens, bytes, accuracy."""
    from relope.reporting import store_facts

    facts = store_facts(_local(store))
    if as_json:
        console.out(json.dumps(facts, indent=2))
        return
    rows = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in facts.items()]
    console.table(store, ("", ""), rows)


@store_app.command()
def verify(
    store: Annotated[str, typer.Argument(help="A store.")],
    deep: Annotated[bool, typer.Option("--deep", help="Also recompute every sample's content digest.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Check every file of a store against its digests; exit 2 when something is wrong."""
    from relope.store import verify as check

    problems = check(_local(store), deep=deep)
    if as_json:
        console.out(json.dumps([vars(problem) for problem in problems], indent=2))
    elif problems:
        console.table(
            f"{store}: {len(problems)} problems", ("part", "file", "what"), [(p.part, p.file, p.what) for p in problems]
        )
    else:
        console.note(f"{store}: every file is what was written")
    if problems:
        raise typer.Exit(2)


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
