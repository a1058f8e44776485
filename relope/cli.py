"""The command line: parse → specification → step → show. Nothing is decided here."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from relope.commands import console, endings
from relope.commands.flags import CONTEXT, Command, command_of, examples, without_types
from relope.errors import unknown
from relope.fields import Spec
from relope.spec import SPECS
from relope.types import Outcome, TextTable
from relope.version import __version__
from relope.words import alternatives

if TYPE_CHECKING:
    from relope.cluster.crew import Wanted
    from relope.pipeline.plan import PlannedStep

HELP = "Route between a small and a large (multimodal) LLM by the small one's hidden states."
KINDS = {
    "models": {"backbones": ""},
    "datasets": {"datasets": ""},
    "methods": {"methods": ""},
    "graders": {"graders": ""},
    "engines": {"extract_engines": "extract", "engines": "serve"},
    "importers": {"importers": ""},
}
"""What `relope list` takes → the kinds of plug-ins that it shows, with the step that each is for where they differ."""
GROUPS = {"store": "Look at, check and share stores.", "router": "Share bundles: routers that are ready to serve."}
"""First word of the steps that are commands of a command."""
PANELS = {
    "Begin": ("demo", "doctor", "list"),
    "Answers and hidden states": ("plan", "extract", "caption", "import", "grade", "store"),
    "Routers": ("fit", "sweep", "predict", "explain", "export"),
    "What they are worth": ("evaluate", "recommend", "view", "compare", "study"),
    "Put to use": ("calibrate", "route", "serve", "vllm-command", "router"),
    "All at once": ("run",),
}
"""What the commands are for, in the order in which one uses them."""
DEMO = Path("runs/demo")


def _run(spec: Spec, as_json: bool, quiet: bool) -> None:
    from relope.commands.show import run_and_show

    run_and_show(spec, as_json, quiet)


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

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is asked for.

        Raises:
            NotFoundError: there is none of that name.
        """
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            hint = f"`{ctx.command_path} --help` says what each one does"
            raise unknown("command", args[0], self.list_commands(ctx), hint)
        return super().resolve_command(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options that belong to no command."""
        return without_types(super().get_params(ctx))


class StoreSteps(Steps):
    """The commands behind ``relope store``."""

    prefix = "store "


class RouterSteps(Steps):
    """The commands behind ``relope router``."""

    prefix = "router "


class Root(Steps):
    """Turns what goes wrong into lines and exit codes; a bug keeps its traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands panel by panel, those of no panel last."""
        placed = [name for names in PANELS.values() for name in names]
        there = super().list_commands(ctx)
        return [*(name for name in placed if name in there), *(name for name in there if name not in placed)]

    def get_command(self, ctx: Any, name: str) -> Any:
        """Return a command by name, with the panel of `--help` that it stands in."""
        command = super().get_command(ctx, name)
        for panel, names in PANELS.items():
            if command is not None and name in names:
                command.rich_help_panel = panel
        return command

    def main(self, *given: Any, **extra: Any) -> Any:
        """Run the command line and exit."""
        words = extra.pop("args", given[0] if given else None)
        words, extra["standalone_mode"] = list(sys.argv[1:] if words is None else words), False
        sys.exit(endings.exit_code(lambda: super(Root, self).main(words, **extra), words))


app = typer.Typer(
    name="relope",
    help=HELP,
    epilog="Begin with `relope demo --quick`, then docs/tutorial.md.",
    cls=Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)
store_app = typer.Typer(cls=StoreSteps, help=GROUPS["store"], no_args_is_help=True, context_settings=CONTEXT)


@store_app.callback()
def _store() -> None:
    """Hold the steps of stores."""


router_app = typer.Typer(cls=RouterSteps, help=GROUPS["router"], no_args_is_help=True, context_settings=CONTEXT)


@router_app.callback()
def _router() -> None:
    """Hold the steps of bundles."""


app.add_typer(store_app, name="store", help=GROUPS["store"])
app.add_typer(router_app, name="router", help=GROUPS["router"])


def _version(asked: bool) -> None:
    if asked:
        console.out(f"relope {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and stop")
    ] = False,
) -> None:
    """Hold the options that belong to no command."""


Json = Annotated[bool, typer.Option("--json", help="print the result, or the error, as JSON on stdout")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress and no notes on stderr")]


@app.command(cls=Command, epilog=examples("demo"))
def demo(
    out: Annotated[Path, typer.Option(help="folder for stores, routers and the report", metavar="PATH")] = DEMO,
    quick: Annotated[bool, typer.Option("--quick", help="a few hundred questions only")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole pipeline on the embedded model: extract, fit, evaluate, report."""
    from relope.commands.show import show_last
    from relope.pipeline.file import packaged_file

    # The quick demo is over before a second process has loaded torch.
    name, jobs = ("demo-quick", 1) if quick else ("demo", None)
    steps, outcomes = _run_pipeline(packaged_file(), name, out, jobs, quiet)
    if as_json:
        _tell(outcomes)
        return
    show_last([step.spec for step in steps], outcomes, quiet)
    if quiet:
        return
    report, store = outcomes[-1].path, out / "tiny-vl.zarr"
    console.note(f"\nOpen {report / 'report.html'} in a browser. Then docs/tutorial.md, step 3, or:")
    console.note(f"  relope view {report}")
    console.note(f"  relope store info {store}")
    console.note("  relope list methods")


@app.command(cls=Command, epilog=examples("run"))
def run(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="a pipeline; without one, all are listed")] = None,
    out: Annotated[
        Path | None, typer.Option(help="what ${out} stands for; default: the pipeline's own", metavar="PATH")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="fits side by side; default: the cores, at most 4; on a cluster as many as fit", metavar="N"
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="where they run: local, or ray for the workers of a cluster", metavar="local|ray")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="of a Ray cluster, or auto; default: one is started on this machine", metavar="HOST:PORT"),
    ] = None,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(min=0, max=64, help="cards of each fit; default: 1 where the cluster has any", metavar="FLOAT"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would run and why, and stop")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a pipeline of pipelines.yaml, skipping what is up to date."""
    from relope.commands.show import show_last, show_rows
    from relope.pipeline.file import default_out, pipelines_file, read_pipelines

    path = pipelines_file()
    if name is None:
        rows = [(key, str(entry.get("about", ""))) for key, entry in read_pipelines(path).items()]
        show_rows(TextTable(f"Pipelines of {path}", ("name", "about"), rows), as_json)
        return
    cluster = _cluster(engine, address, jobs, gpus_per_worker)
    folder = out or default_out(path, name)
    if dry_run:
        show_rows(_plan(path, name, folder, as_json), as_json)
        return
    steps, outcomes = _run_pipeline(path, name, folder, jobs, quiet, cluster)
    if as_json:
        _tell(outcomes)
        return
    show_last([step.spec for step in steps], outcomes, quiet)


def _cluster(engine: str, address: str | None, jobs: int | None, gpus: float | None) -> "Wanted | None":
    """Return the cluster that a pipeline's steps run on; None where they run here."""
    from relope.cluster.crew import ENGINES, Wanted, check_settings

    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    check_settings(engine, {"address": address, "gpus_per_worker": gpus})
    return Wanted(address, jobs, gpus) if engine == "ray" else None


def _tell(outcomes: "list[Outcome]") -> None:
    """Print what each step of a pipeline did as JSON."""
    console.out_json([{"path": str(done.path), "reused": done.reused, "text": done.text} for done in outcomes])


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


def _run_pipeline(
    path: Path, name: str, out: Path, jobs: int | None, quiet: bool, cluster: "Wanted | None" = None
) -> "tuple[list[PlannedStep], list[Outcome]]":
    from relope.pipeline.ledger import Ledger
    from relope.pipeline.plan import plan
    from relope.pipeline.runner import default_jobs, run_pipeline

    steps = plan(path, name, out)
    with console.board(len(steps), quiet) as board:
        return steps, run_pipeline(steps, Ledger.open(out), jobs or default_jobs(), board, cluster)


@app.command("list", cls=Command, epilog=examples("list"))
def list_command(
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help=alternatives([*KINDS]), autocompletion=lambda: [*KINDS]),
    ],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what there is: models, datasets, methods, graders, engines or importers."""
    from relope import registry

    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    listed = [
        {"name": name, **({"step": step} if step else {}), "summary": registry.summary(plugins, name)}
        for plugins, step in KINDS[kind].items()
        for name in registry.names(plugins)
    ]
    if as_json:
        console.out_json(listed)
        return
    heads = ("name", "of", "what it is") if any("step" in row for row in listed) else ("name", "what it is")
    console.table(kind.capitalize(), heads, [tuple(row.values()) for row in listed])


def main() -> None:
    """Run the command line: exit code 0 ok, 1 bug, 2 user error, 130 interrupted."""
    app(prog_name="relope")
