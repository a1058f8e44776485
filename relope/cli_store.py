"""``relope store …``: what can be done with a store as a whole."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relope import console

if TYPE_CHECKING:
    from relope.store import Problem

store_app = typer.Typer(help="Look at and check stores.", no_args_is_help=True)


@store_app.command()
def info(
    store: Annotated[Path, typer.Argument(help="A store.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Show what a store holds: identity, layers, samples, tokens, bytes, accuracy."""
    from relope.reporting import store_facts

    facts = store_facts(store)
    if as_json:
        console.out(json.dumps(facts, indent=2))
        return
    rows = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in facts.items()]
    console.table(str(store), ("", ""), rows)


@store_app.command()
def verify(
    store: Annotated[Path, typer.Argument(help="A store.")],
    deep: Annotated[bool, typer.Option("--deep", help="Also recompute every sample's content digest.")] = False,
    against_model: Annotated[
        int | None, typer.Option("--against-model", min=1, help="Run so many samples again and compare their states.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Check every file of a store against its digests; exit 2 when something is wrong."""
    from relope.store import verify as check

    problems = check(store, deep=deep)
    if against_model and not problems:
        problems = _against_model(store, against_model)
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
