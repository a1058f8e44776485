"""The command line: parse → specification → step → render. Nothing is decided here."""

import inspect
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from typer.core import TyperGroup

from relope import __version__, console
from relope.cli_store import store_app
from relope.errors import InvalidInputError, RelopeError, unknown
from relope.places import shown

HELP = "Route between a small and a large (multimodal) LLM by the small one's hidden states."
KINDS = {"models": "backbones", "datasets": "datasets", "methods": "methods", "graders": "graders"}
STEPS = ("extract", "grade", "fit", "predict", "evaluate")
CONTEXT = {"help_option_names": ["-h", "--help"]}
POSITIONAL = {"method"}
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
            console.note(f"error: {shown(str(error))}")
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
        declared = Annotated[str, typer.Argument(help=info.description)]
        return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=declared)
    if name == "set":
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
    """Read ``key=value`` pairs; a value is read as YAML, so that numbers and booleans are such."""
    import yaml

    found = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidInputError(f"--set {pair!r} must be key=value, e.g. --set head=logistic")
        found[key] = float(value) if _is_float(value) else yaml.safe_load(value)
    return found


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
    if as_json:
        facts = outcome.facts.get("report", outcome.facts)
        console.out(json.dumps({"path": shown(str(outcome.path)), "reused": outcome.reused, **facts}, indent=2))
        return
    if "report" in outcome.facts:
        _show_report(outcome.facts["report"])
    console.note(shown(outcome.text))


def _show_report(report: dict[str, Any]) -> None:
    from relope.evaluate.report import terminal_rows

    columns, rows = terminal_rows(report)
    console.table(f"AUC of P(correct) on {report['n']} samples", columns, rows)


def _summaries() -> dict[str, str]:
    """Return step → first line of its specification's docstring, without importing it."""
    source = (Path(__file__).parent / "spec.py").read_text(encoding="utf-8")
    return {name.lower(): text for name, text in re.findall(r'class (\w+)Spec\(Spec\):\n    """(.+?)"""', source)}


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
    report = _run_pipeline("demo-quick" if quick else "demo", out, packaged=True)
    store = out / "tiny-vl.zarr"
    console.note(f"\nThe report: {report / 'report.html'}\nTry next:")
    console.note(f"  relope store info {store}")
    console.note(f"  relope fit probe --store {store} --set head=logistic")
    console.note("  relope list methods")


@app.command()
def run(
    name: Annotated[str | None, typer.Argument(help="A pipeline; without one, all are listed.")] = None,
    out: Annotated[Path | None, typer.Option(help="What ${out} stands for; default runs/<name>.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the steps and stop.")] = False,
) -> None:
    """Run a pipeline of pipelines.yaml, skipping what is up to date."""
    from relope.pipeline import pipelines_file, plan, read_pipelines

    path = pipelines_file()
    if name is None:
        rows = [(key, str(entry.get("about", ""))) for key, entry in read_pipelines(path).items()]
        console.table(f"Pipelines of {path}", ("name", "what it does"), rows)
        return
    folder = out or Path("runs") / name
    if dry_run:
        steps = plan(path, name, folder)
        shown = [(step.stage, step.step, step.variant, _given(step.spec)) for step in steps]
        console.table(f"Steps of {name}", ("stage", "step", "variant", "with"), shown)
        return
    _run_pipeline(name, folder, packaged=False)


def _given(spec: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in spec.model_dump(mode="json", exclude_defaults=True).items())


def _run_pipeline(name: str, out: Path, *, packaged: bool) -> Path:
    from relope.pipeline import packaged_file, pipelines_file, plan
    from relope.steps import run_step

    steps = plan(packaged_file() if packaged else pipelines_file(), name, out)
    outcome = None
    for number, step in enumerate(steps, 1):
        label = f"[{number}/{len(steps)}] {step.stage}{' ' + step.variant if step.variant else ''}"
        outcome = run_step(step.step, step.spec, console.progress)
        console.note(f"{label}: {outcome.text}")
        if "report" in outcome.facts:
            _show_report(outcome.facts["report"])
    return outcome.path if outcome else out


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
