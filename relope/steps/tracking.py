"""A fit, a sweep or an evaluation told to an experiment tracker: numbers and the specification, never a sample.

Three trackers behind two calls. A tracker that fails is told once in a warning, and the work goes on without it: a fit
of hours is worth more than its curve. Nothing that a step writes hangs on it.

Source: ``trackio.init`` and ``wandb.init``, which trackio follows; ``mlflow.MlflowClient``, which leaves mlflow's
active run alone.
"""

import importlib.util
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Protocol

from relope.command_line import UNTOLD, command_line, told
from relope.errors import NotFoundError
from relope.fields import Spec

log = logging.getLogger(__name__)

Numbers = Mapping[str, float | None]
_LONGEST = 500
"""Letters of a setting that is told: the shortest that a tracker allows."""


class Logged(Protocol):
    """What a specification says of tracking."""

    @property
    def log_to(self) -> str | None:
        """Name of the tracker."""

    @property
    def log_project(self) -> str:
        """Its project."""


class Run(Protocol):
    """A run of a tracker."""

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Tell numbers of a step."""

    def finish(self) -> None:
        """Say that there is no more."""


class Tell:
    """What a step tells its numbers to; without a tracker, or after it has failed, nothing happens."""

    def __init__(self, tracker: str, run: Run | None) -> None:
        self.tracker, self._run = tracker, run

    def __call__(self, numbers: Numbers, step: int = 0) -> None:
        """Tell numbers; those that are not known are left out."""
        known = {_name(name): float(value) for name, value in numbers.items() if value is not None}
        self.guarded(lambda run: run.log(known, step))

    def guarded(self, call: Callable[[Run], None]) -> None:
        """Call a run, and never again once that has failed."""
        if self._run is None:
            return
        try:
            with redirect_stdout(sys.stderr):  # results alone go to stdout
                call(self._run)
        except Exception as error:  # noqa: BLE001 (whatever a tracker raises, the fit is not lost)
            _warn(self.tracker, error)
            self._run = None


def check_tracker(spec: Logged) -> None:
    """Refuse a tracker that is not installed, before anything is fitted.

    Raises:
        NotFoundError: it is not.
    """
    if spec.log_to is not None and importlib.util.find_spec(spec.log_to) is None:
        raise NotFoundError(
            f"tracking by {spec.log_to} needs the extra `{spec.log_to}`, which is not installed",
            hint=f"pip install 'relope[{spec.log_to}]'",
        )


@contextmanager
def tracked(spec: Any, name: str, more: Mapping[str, Any] | None = None) -> Iterator[Tell]:
    """Give what numbers are told to; under ``torchrun`` the first process alone tells any.

    Args:
        spec: the step's specification, which says to which tracker and is told as the run's configuration.
        name: of the run.
        more: settings of this run beside the specification.
    """
    first = os.environ.get("RANK", "0") == "0"
    tell = Tell(spec.log_to or "", _begun(spec, name, more or {}) if spec.log_to and first else None)
    try:
        yield tell
    finally:
        tell.guarded(lambda run: run.finish())


def run_name(*words: object) -> str:
    """Return the name of a run from the words of its specification: ``fit probe tiny.zarr seed 0``."""
    return " ".join(told(word) if not isinstance(word, str) else Path(told(word)).name for word in words)


def _begun(spec: Any, name: str, more: Mapping[str, Any]) -> Run | None:
    config = {**_config(spec), **{key: told(value)[:_LONGEST] for key, value in more.items()}}
    try:
        with redirect_stdout(sys.stderr):
            return _OPEN[spec.log_to](spec.log_project, name, config)
    except Exception as error:  # noqa: BLE001 (as above: e.g. nobody is signed in)
        _warn(spec.log_to, error)
        return None


def _warn(tracker: str, error: Exception) -> None:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    log.warning("%s failed (%s): the rest of this run is not told to it", tracker, reason)


def _config(spec: Spec) -> dict[str, Any]:
    """Return a specification as a tracker takes it: flat, of plain values, with nobody's folders or keys in it."""
    config: dict[str, Any] = {"command": command_line(spec)[:_LONGEST]}
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if name in UNTOLD or value is None:
            continue
        if isinstance(value, Mapping):
            config |= {f"{name}.{key}": told(inner)[:_LONGEST] for key, inner in value.items()}
        elif isinstance(value, (list, tuple)):
            config[name] = ",".join(map(told, value))[:_LONGEST]
        else:
            config[name] = value if isinstance(value, (bool, int, float)) else told(value)[:_LONGEST]
    return config


def _name(text: str) -> str:
    """Return a number's name as every tracker takes it."""
    return re.sub(r"[^\w./ -]", "_", text)


def _trackio(project: str, name: str, config: dict[str, Any]) -> Run:
    import trackio

    run: Run = trackio.init(
        project=project, name=name, config=config, embed=False, auto_log_gpu=False, auto_log_cpu=False
    )
    return run


def _wandb(project: str, name: str, config: dict[str, Any]) -> Run:
    """Begin a run that keeps neither the terminal, in which samples may stand, nor code."""
    import wandb

    settings = wandb.Settings(console="off", save_code=False, disable_git=True, disable_job_creation=True)
    run: Run = wandb.init(project=project, name=name, config=config, settings=settings)
    return run


class _MlflowRun:
    """A run of mlflow through its client."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._id = client, run_id

    def log(self, numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._client.log_metric(self._id, name, value, step=step)

    def finish(self) -> None:
        self._client.set_terminated(self._id)


def _mlflow(project: str, name: str, config: dict[str, Any]) -> Run:
    from mlflow import MlflowClient

    client = MlflowClient()
    known = client.get_experiment_by_name(project)
    experiment = client.create_experiment(project) if known is None else known.experiment_id
    run_id = client.create_run(experiment, run_name=name).info.run_id
    for key, value in config.items():
        client.log_param(run_id, _name(key), value)
    return _MlflowRun(client, run_id)


_OPEN: dict[str, Callable[[str, str, dict[str, Any]], Run]] = {
    "trackio": _trackio,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
