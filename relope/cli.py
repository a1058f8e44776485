"""The command line: parse → specification → step → render. Nothing is decided here."""

import inspect
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from typer.core import TyperGroup

from relope.commands import console
from relope.commands.store import store_app
from relope.errors import InvalidInputError, RelopeError, unknown
from relope.places import shown
from relope.version import __version__

HELP = "Route between a small and a large (multimodal) LLM by the small one's hidden states."
KINDS = {"models": "backbones", "datasets": "datasets", "methods": "methods", "graders": "graders"}
STEPS = (
    "extract", "plan", "caption", "grade", "fit", "sweep", "predict", "explain", "export", "evaluate", "study",
    "compare",
)  # fmt: skip
CONTEXT = {"help_option_names": ["-h", "--help"]}
POSITIONAL = {"method", "folder", "study", "first", "second"}
"""Fields given without a flag."""


class Root(TyperGroup):
    """Builds a step's command when it is called, and turns our errors into lines and exit codes.

    The flags of a step come from its specification, whose import alone would double the time that
    ``relope --help`` takes. A bug keeps its traceback.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, _step_command(name) if name in STEPS else command, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RelopeError as error:
            console.note(f"error: {shown(error.lines)}")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            console.note("interrupted; what was finished is kept, the same command goes on from there")
            raise typer.Exit(130) from error


app = typer.Typer(
    name="relope", help=HELP, cls=Root, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)  # fmt: skip
app.add_typer(store_app, name="store")


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


def _step_command(step: str) -> Any:
    """Return the command of a step with every flag of its specification."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=CONTEXT)
    single.command(step)(_command(step))
    return typer.main.get_command(single)


def _command(step: str) -> Callable[..., None]:
    """Make the function behind the command of a step from its specification."""
    from relope.spec import SPECS, build

    fields = SPECS[step].model_fields

    def run(**given: Any) -> None:
        as_json = given.pop("json")
        values = {key: value for key, value in given.items() if value is not None and value != []}
        if "set" in values:
            values["set"] = _settings(values["set"])
        if "grid" in values:
            values["grid"] = _grid(values["grid"])
        _run(step, build(step, values), as_json)

    parameters = [_parameter(name, info) for name, info in fields.items()]
    parameters.append(_json_parameter())
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__doc__ = SPECS[step].__doc__
    return run


def _parameter(name: str, info: Any) -> inspect.Parameter:
    default: Any = ... if info.is_required() else _default(info)
    shown: Any = {"show_default": _shown(info)}
    flag = f"--{name.replace('_', '-')}"
    if name in POSITIONAL:
        declared = Annotated[str, typer.Argument(help=_help(info))]
        return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=declared)
    if name in ("set", "grid"):
        option: Any = Annotated[list[str] | None, typer.Option(flag, help=info.description, show_default=False)]
        default = None
    elif info.annotation is bool:
        option = Annotated[bool | None, typer.Option(f"{flag}/--no-{flag[2:]}", help=info.description, **shown)]
    else:
        kind = int if info.annotation in (int, int | None) else str
        optional: Any = kind if info.is_required() else kind | None
        option = Annotated[optional, typer.Option(flag, help=_help(info), **shown)]
    keyword = inspect.Parameter.KEYWORD_ONLY
    if default is ...:
        return inspect.Parameter(name, keyword, annotation=option)
    return inspect.Parameter(name, keyword, annotation=option, default=default)


def _help(info: Any) -> str:
    """Return a field's description, with the values that it may have."""
    unions = [info.annotation, *get_args(info.annotation)]
    values = [value for part in unions if get_origin(part) is Literal for value in get_args(part)]
    return f"{info.description} ({', '.join(values)})" if values else str(info.description)


def _shown(info: Any) -> bool:
    """Return whether a default is worth showing; None, empty and False say nothing."""
    return not info.is_required() and bool(info.default)


def _default(info: Any) -> Any:
    if not _shown(info):
        return None
    return ",".join(info.default) if isinstance(info.default, tuple) else str(info.default)


def _json_parameter() -> inspect.Parameter:
    option = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
    return inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, annotation=option, default=False)


def _settings(given: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` pairs."""
    return {key: _value(text) for key, text in (_pair("set", pair, "head=logistic") for pair in given)}


def _grid(given: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Read ``key=value,value`` pairs."""
    pairs = [_pair("grid", pair, "lora_rank=2,4,8") for pair in given]
    return {key: tuple(_value(text.strip()) for text in listed.split(",")) for key, listed in pairs}


def _pair(flag: str, pair: str, example: str) -> tuple[str, str]:
    key, _, value = pair.partition("=")
    if not key or not value:
        raise InvalidInputError(f"--{flag} {pair!r} must be key=value, e.g. --{flag} {example}")
    return key, value


def _value(text: str) -> Any:
    """Read a value as YAML, so that numbers and booleans are such."""
    import yaml

    return float(text) if _is_float(text) else yaml.safe_load(text)


def _is_float(text: str) -> bool:
    """Return whether a value like 1e-3 is a number that YAML would read as text."""
    try:
        float(text)
    except ValueError:
        return False
    return any(mark in text for mark in ".eE")


def _run(step: str, spec: Any, as_json: bool) -> None:
    from relope.steps import run_step

    outcome = run_step(step, spec, console.progress)
    if os.environ.get("RANK", "0") != "0":
        return  # under torchrun the first process speaks for all
    if as_json and "verdicts" in outcome.facts:
        console.out(json.dumps(outcome.facts["verdicts"], indent=2, ensure_ascii=False))
        return
    if as_json:
        facts = outcome.facts.get("report", {key: fact for key, fact in outcome.facts.items() if key != "table"})
        console.out(json.dumps({"path": shown(str(outcome.path)), "reused": outcome.reused, **facts}, indent=2))
        return
    if "table" in outcome.facts:
        console.table(*outcome.facts["table"])
    console.note(shown(outcome.text))


def _summaries() -> dict[str, str]:
    """Return step → first line of its specification's docstring, without importing it."""
    source = (Path(__file__).parent / "spec.py").read_text(encoding="utf-8")
    return {name.lower(): text for name, text in re.findall(r'class (\w+)Spec\(\w*Spec\):\n    """(.+?)"""', source)}


def _placeholder() -> None:
    """Stand in the list of commands until the step is called."""


for _step, _summary in _summaries().items():
    app.command(_step, help=_summary)(_placeholder)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for stores, routers and the report.")] = Path("runs/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A few hundred questions only.")] = False,
) -> None:
    """Run the whole pipeline on the embedded model: extract, fit, evaluate, report."""
    from relope.pipeline.plan import packaged_file

    # The quick demo is over before a second process has loaded torch.
    outcomes = _run_pipeline(packaged_file(), "demo-quick" if quick else "demo", out, 1 if quick else None)
    _show_results(outcomes)
    report = outcomes[-1].path
    store = out / "tiny-vl.zarr"
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
    from relope.pipeline.plan import default_out, pipelines_file, read_pipelines

    path = pipelines_file()
    if name is None:
        rows = [(key, str(entry.get("about", ""))) for key, entry in read_pipelines(path).items()]
        _show_rows(f"Pipelines of {path}", ("name", "about"), rows, as_json)
        return
    folder = out or default_out(path, name)
    if dry_run:
        _show_plan(path, name, folder, as_json)
        return
    outcomes = _run_pipeline(path, name, folder, jobs)
    if as_json:
        shown = [{"path": str(done.path), "reused": done.reused, "text": done.text} for done in outcomes]
        console.out(json.dumps(shown, indent=2))
        return
    _show_results(outcomes)


def _show_plan(path: Path, name: str, folder: Path, as_json: bool) -> None:
    from relope.pipeline.ledger import Ledger
    from relope.pipeline.plan import plan
    from relope.pipeline.runner import decisions

    steps = plan(path, name, folder)
    found = decisions(steps, Ledger.open(folder))
    columns: tuple[str, ...] = ("stage", "step", "does", "why")
    rows: list[tuple[str, ...]] = [
        (step.title, step.step, "run" if one.run else "skip", one.why) for step, one in zip(steps, found, strict=True)
    ]
    if as_json:
        columns = (*columns, "with")
        rows = [(*row, _given(step.spec)) for row, step in zip(rows, steps, strict=True)]
    title = f"Plan of {name}: {sum(one.run for one in found)} of {len(steps)} steps would run"
    _show_rows(title, columns, rows, as_json)


def _show_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], as_json: bool) -> None:
    if as_json:
        console.out(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2))
        return
    console.table(title, columns, rows)


def _given(spec: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in spec.model_dump(mode="json", exclude_defaults=True).items())


def _run_pipeline(path: Path, name: str, out: Path, jobs: int | None) -> list[Any]:
    from relope.pipeline.ledger import Ledger
    from relope.pipeline.plan import plan
    from relope.pipeline.runner import default_jobs, run_pipeline

    steps = plan(path, name, out)
    with console.board(len(steps)) as board:
        return run_pipeline(steps, Ledger.open(out), jobs or default_jobs(), board)


def _show_results(outcomes: Sequence[Any]) -> None:
    """Print the table of the last report, or of every study when there is one."""
    from relope.results import stored_table

    tables = [(done.path, stored_table(done.path)) for done in outcomes]
    known = [(path, table) for path, table in tables if table is not None]
    studies = [(path, table) for path, table in known if (path / "study.json").is_file()]
    for path, (title, columns, rows) in studies or known[-1:]:
        console.table(title, columns, rows)
        console.note(f"→ {path}")


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
