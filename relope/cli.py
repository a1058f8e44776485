"""The command line: parse → specification → step → show. Nothing is decided here."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from relope.commands import console
from relope.commands.flags import CONTEXT, command_of
from relope.errors import RelopeError, unknown
from relope.fields import Spec
from relope.spec import SPECS
from relope.types import Outcome, TextTable
from relope.version import __version__

if TYPE_CHECKING:
    from relope.pipeline.plan import PlannedStep

HELP = "Route between a small and a large (multimodal) LLM by the small one's hidden states."
KINDS = {"models": "backbones", "datasets": "datasets", "methods": "methods", "graders": "graders"}
GROUPS = {"store": "Look at, check and share stores."}
"""First word of the steps that are commands of a command."""


def _run(spec: Spec, as_json: bool) -> None:
    from relope.commands.show import run_and_show

    run_and_show(spec, as_json)


class Steps(TyperGroup):
    """Commands made from specifications, each when it is asked for."""

    prefix = ""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the steps of this group before the commands written by hand."""
        steps = [step.removeprefix(self.prefix) for step in SPECS if step.startswith(self.prefix)]
        return [*(step for step in steps if " " not in step), *super().list_commands(ctx)]

    def get_command(self, ctx: Any, name: str) -> Any:
        """Return a command by name."""
        step = f"{self.prefix}{name}"
        return command_of(step, _run) if step in SPECS else super().get_command(ctx, name)


class StoreSteps(Steps):
    """The commands behind ``relope store``."""

    prefix = "store "


class Root(Steps):
    """Turns our errors into lines and exit codes; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except RelopeError as error:
            console.note(f"error: {error.lines}")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            console.note("interrupted; what was finished is kept, the same command goes on from there")
            raise typer.Exit(130) from error


app = typer.Typer(
    name="relope", help=HELP, cls=Root, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)  # fmt: skip
store_app = typer.Typer(cls=StoreSteps, help=GROUPS["store"], no_args_is_help=True, context_settings=CONTEXT)


@store_app.callback()
def _store() -> None:
    """Hold the steps of stores."""


app.add_typer(store_app, name="store", help=GROUPS["store"])


def _version(asked: bool) -> None:
    if asked:
        console.out(f"relope {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Hold the options that belong to no command."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for stores, routers and the report.")] = Path("runs/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A few hundred questions only.")] = False,
) -> None:
    """Run the whole pipeline on the embedded model: extract, fit, evaluate, report."""
    from relope.commands.show import show_last
    from relope.pipeline.file import packaged_file

    # The quick demo is over before a second process has loaded torch.
    steps, outcomes = _run_pipeline(packaged_file(), "demo-quick" if quick else "demo", out, 1 if quick else None)
    show_last([step.spec for step in steps], outcomes)
    report, store = outcomes[-1].path, out / "tiny-vl.zarr"
    console.note(f"\nThe report: {report / 'report.html'}\nTry next:")
    console.note(f"  relope store info {store}")
    console.note(f"  relope fit probe --store {store} --set head=logistic")
    console.note("  relope list methods")


@app.command()
def run(
    name: Annotated[str | None, typer.Argument(help="A pipeline; without one, all are listed.")] = None,
    out: Annotated[Path | None, typer.Option(help="What ${out} stands for; default: the pipeline's own.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Fits side by side; default: the cores, at most 4.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run and why, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Run a pipeline of pipelines.yaml, skipping what is up to date."""
    from relope.commands.show import show_last, show_rows
    from relope.pipeline.file import default_out, pipelines_file, read_pipelines

    path = pipelines_file()
    if name is None:
        rows = [(key, str(entry.get("about", ""))) for key, entry in read_pipelines(path).items()]
        show_rows(TextTable(f"Pipelines of {path}", ("name", "about"), rows), as_json)
        return
    folder = out or default_out(path, name)
    if dry_run:
        show_rows(_plan(path, name, folder, as_json), as_json)
        return
    steps, outcomes = _run_pipeline(path, name, folder, jobs)
    if as_json:
        told = [{"path": str(done.path), "reused": done.reused, "text": done.text} for done in outcomes]
        console.out(json.dumps(told, indent=2))
        return
    show_last([step.spec for step in steps], outcomes)


def _plan(path: Path, name: str, folder: Path, with_fields: bool) -> TextTable:
    """Return what a run would do with each step, and why."""
    from relope.pipeline.ledger import Ledger
    from relope.pipeline.plan import plan
    from relope.pipeline.runner import decisions

    steps = plan(path, name, folder)
    decided = decisions(steps, Ledger.open(folder))
    columns = ("stage", "step", "does", "why", *(["with"] if with_fields else []))
    rows = [
        (step.title, step.spec.step, "run" if decision.run else "skip", decision.why,
         *([_fields(step.spec)] if with_fields else []))
        for step, decision in zip(steps, decided, strict=True)
    ]  # fmt: skip
    n_run = sum(decision.run for decision in decided)
    return TextTable(f"Plan of {name}: {n_run} of {len(steps)} steps would run", columns, rows)


def _fields(spec: Spec) -> str:
    return ", ".join(f"{key}={value}" for key, value in spec.model_dump(mode="json", exclude_defaults=True).items())


def _run_pipeline(path: Path, name: str, out: Path, jobs: int | None) -> "tuple[list[PlannedStep], list[Outcome]]":
    from relope.pipeline.ledger import Ledger
    from relope.pipeline.plan import plan
    from relope.pipeline.runner import default_jobs, run_pipeline

    steps = plan(path, name, out)
    with console.board(len(steps)) as board:
        return steps, run_pipeline(steps, Ledger.open(out), jobs or default_jobs(), board)


@app.command("list")
def list_command(
    kind: Annotated[str, typer.Argument(help="models, datasets, methods or graders")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Show what there is: models, datasets, methods or graders."""
    from relope import registry

    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    rows = [(name, registry.summary(KINDS[kind], name)) for name in registry.names(KINDS[kind])]
    if as_json:
        console.out(json.dumps([{"name": name, "summary": text} for name, text in rows], indent=2))
        return
    console.table(kind.capitalize(), ("name", "what it is"), rows)


def main() -> None:
    """Run the command line: exit code 0 ok, 1 bug, 2 user error, 130 interrupted."""
    app(prog_name="relope")
