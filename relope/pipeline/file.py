"""pipelines.yaml as it is written: pipelines by name, those that extend another filled in."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from relope.errors import InvalidInputError, NotFoundError, unknown


class _Reader(yaml.SafeLoader):
    """YAML whose keys are text, each once: a stage that is written twice is a mistake, not a wish."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping.

        Raises:
            ConstructorError: a key comes twice.
        """
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} comes twice", key.start_mark)
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                key.tag = "tag:yaml.org,2002:str"
                seen.add(key.value)
        return super().construct_mapping(node, deep)


PIPELINE_KEYS = ("about", "out", "extends", "with", "stages")


def pipelines_file() -> Path:
    """Return the pipelines.yaml of the current folder, or the one that comes with the package."""
    own = Path("pipelines.yaml")
    return own if own.is_file() else packaged_file()


def packaged_file() -> Path:
    """Return the pipelines.yaml of the package (of the checkout, in an editable install)."""
    package = Path(__file__).parents[1]
    for path in (package / "pipelines.yaml", package.parent / "pipelines.yaml"):
        if path.is_file():
            return path
    raise NotFoundError("the package has no pipelines.yaml; install relope again")


def read_pipelines(path: Path) -> dict[str, Any]:
    """Return name → pipeline of a file.

    Raises:
        InvalidInputError: it is no YAML, or not of the form that we read.
        NotFoundError: a pipeline has a key that there is not.
    """
    try:
        with path.open(encoding="utf-8") as file:
            pipelines = yaml.load(file, _Reader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(pipelines, dict) or not all(isinstance(entry, dict) for entry in pipelines.values()):
        raise InvalidInputError(f"{path} must map pipeline names to `about` and `stages`")
    for name, entry in pipelines.items():
        for key in entry:
            if key not in PIPELINE_KEYS:
                raise unknown(f"key of {path}: {name}", key, PIPELINE_KEYS)
        for key in ("stages", "with"):
            check_mapping(f"{path}: {name}: {key}", entry.get(key))
    return {name: _extended(path, pipelines, (name,)) for name in pipelines}


def _extended(path: Path, pipelines: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the pipeline ``names[-1]``, filled in from the one that it extends: its stages, some fields of them set.

    Raises:
        InvalidInputError: it extends itself, has stages of its own, or sets fields without extending.
        NotFoundError: there is no such pipeline, or it has no such stage.
    """
    where, entry = f"{path}: {names[-1]}", pipelines[names[-1]]
    base = entry.get("extends")
    if base is None:
        if entry.get("with"):
            raise InvalidInputError(f"{where}: `with` sets fields of the stages that `extends` takes from a pipeline")
        return dict(entry)
    if base not in pipelines:
        raise unknown(f"pipeline that {where} extends", str(base), pipelines)
    if base in names or entry.get("stages"):
        why = f"extends itself ({' → '.join((*names, base))})" if base in names else "has both `extends` and `stages`"
        raise InvalidInputError(f"{where} {why}")
    taken = _extended(path, pipelines, (*names, base))
    stages = {stage: dict(body) for stage, body in (taken.get("stages") or {}).items()}
    for stage, fields in (entry.get("with") or {}).items():
        if stage not in stages:
            raise unknown(f"stage of {base} in {where}", stage, stages)
        check_mapping(f"{where}: with: {stage}", fields)
        stages[stage]["with"] = {**(stages[stage].get("with") or {}), **(fields or {})}
    own = {key: value for key, value in entry.items() if key not in ("extends", "with")}
    return {"out": taken.get("out"), **own, "stages": stages}


def default_out(path: Path, name: str) -> Path:
    """Return the folder that a pipeline's ``${out}`` stands for when none is given."""
    entry = read_pipelines(path).get(name) or {}
    return Path(str(entry.get("out") or Path("runs") / name))


def check_mapping(where: str, value: Any) -> None:
    """Refuse what is no mapping."""
    if value is not None and not isinstance(value, dict):
        raise InvalidInputError(f"{where} must map names to values, not {value!r}")
