"""Python and the packages, held against what relope says that it needs."""

import importlib.util
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from platform import machine, python_implementation, python_version, system

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from relope.doctor.finding import Finding

EXTRAS = {
    "cloud": "stores in buckets",
    "endpoint": "models that run elsewhere",
    "excel": "sheets of other tools",
    "ray": "extraction on a Ray cluster",
    "serve": "`relope serve` and `relope view`",
    "text": "routellm-sw with its own encoder",
    "trackio": "`--log-to trackio`",
    "wandb": "`--log-to wandb`",
    "mlflow": "`--log-to mlflow`",
}
"""Extra → what it is for; `quantize` is told with the accelerator."""

_VLLM = "import importlib.metadata as m; print(m.version('vllm'))"
_VLLM_S = 5.0


def python() -> Finding:
    """Return which Python runs, and whether it is new enough."""
    needed = SpecifierSet(metadata("relope")["Requires-Python"])
    said = f"{python_implementation()} {python_version()} on {system()} {machine()} ({sys.executable})"
    if not needed.contains(python_version(), prereleases=True):
        return Finding("Python", "error", said, f"install Python {needed}")
    if struct.calcsize("P") * 8 < 64:
        return Finding(
            "Python", "error", f"{said}, 32 bits", "install a Python of 64 bits: stores are mapped into memory"
        )
    return Finding("Python", "ok", said)


def packages() -> Iterator[Finding]:
    """Yield what relope needs and has not, or all in one line; transformers, on which most hangs, has its own."""
    needed = [requirement for requirement in _needed() if requirement.marker is None]
    wrong = [(requirement, _has(requirement.name)) for requirement in needed if not _fits(requirement)]
    for requirement, has in wrong:
        level = "an other version is installed" if has else "not installed"
        yield Finding(
            requirement.name,
            "error",
            f"{has or '—'}: {level}",
            f"pip install '{requirement.name}{requirement.specifier}'",
        )
    if all(requirement.name != "transformers" for requirement, _ in wrong):
        (pin,) = [requirement for requirement in needed if requirement.name == "transformers"]
        yield Finding("transformers", "ok", f"{_has('transformers')}, as needed ({pin.specifier})")
    if not wrong:
        yield Finding("packages", "ok", f"all {len(needed)} that relope {version('relope')} needs")


def extras() -> Finding:
    """Return which extras are not installed, and what they are for."""
    lacking = [extra for extra in EXTRAS if not all(_fits(requirement) for requirement in _needed(extra))]
    if not lacking:
        return Finding("extras", "ok", f"all installed: {', '.join(EXTRAS)}")
    told = "; ".join(f"{extra} ({EXTRAS[extra]})" for extra in lacking)
    return Finding(
        "extras", "ok", f"not installed: {told}", f"pip install 'relope[{','.join(lacking)}]', where you need them"
    )


def vllm(named: str | None) -> Finding:
    """Return where vLLM is found: in the environment of a Python that was named, in this one, or on the path.

    Args:
        named: the Python of vLLM's own environment; None where none was named.
    """
    if named is not None:
        installed = _vllm_of(named)
        if not installed:
            return Finding(
                "vLLM", "error", f"not in the environment of {named}", "name the Python that vLLM is installed for"
            )
        return Finding("vLLM", "ok", f"{installed} for {named}")
    if importlib.util.find_spec("vllm") is not None:
        return Finding("vLLM", "ok", f"{_has('vllm') or 'some version'} in this environment")
    if command := shutil.which("vllm"):
        return Finding("vLLM", "ok", f"the command {command}")
    return Finding(
        "vLLM", "ok", "not found here", "needed for its engine alone: give --vllm-python PYTHON to look elsewhere"
    )


def _vllm_of(python: str) -> str:
    try:
        done = subprocess.run([python, "-c", _VLLM], capture_output=True, text=True, timeout=_VLLM_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _needed(extra: str = "") -> list[Requirement]:
    """Return what relope requires, or an extra of it."""
    every = [Requirement(text) for text in requires("relope") or ()]
    if not extra:
        return [each for each in every if each.marker is None or "extra" not in str(each.marker)]
    return [each for each in every if each.marker is not None and each.marker.evaluate({"extra": extra})]


def _has(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _fits(requirement: Requirement) -> bool:
    has = _has(requirement.name)
    return bool(has) and requirement.specifier.contains(has, prereleases=True)
