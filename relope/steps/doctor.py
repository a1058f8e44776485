"""The step ``doctor``: what this machine lacks of what relope needs, and what to do about it."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from relope.doctor.finding import Finding
from relope.fields import Spec
from relope.spec import DoctorSpec, ServeSpec, ViewSpec, VllmCommandSpec
from relope.steps.step import Step
from relope.types import Outcome, TextTable, Watch
from relope.words import counted


def output(spec: DoctorSpec) -> Path:
    """Return the folder that is tried out: nothing stays in it."""
    return spec.out


def run(spec: DoctorSpec, watch: Watch) -> Outcome:
    """Look at everything, and tell it line by line."""
    looks, findings = _looks(spec), list[Finding]()
    with watch("look") as progress:
        for number, look in enumerate(looks):
            progress(number, len(looks))
            findings += look()
        progress(len(looks), len(looks))
    levels = Counter(finding.level for finding in findings)
    said = [counted(n, what) for n, what in ((levels["error"], "error"), (levels["warning"], "warning")) if n]
    rows = [
        (finding.name, finding.level, f"{finding.said}\n→ {finding.do}" if finding.do else finding.said)
        for finding in findings
    ]
    return Outcome(
        spec.out,
        text=", ".join(said) or "nothing is wrong",
        tables=[TextTable("", ("looked at", "", "found"), rows)],
        payload={
            "errors": levels["error"],
            "warnings": levels["warning"],
            "checks": [asdict(finding) for finding in findings],
        },
        failed=levels["error"] > 0,
        code=1,
    )


def _looks(spec: DoctorSpec) -> list[Callable[[], Iterable[Finding]]]:
    """Return everything that is looked at, in order."""
    from relope.doctor import accelerator, folder, reach, software

    servers: dict[type[Spec], str] = {
        ServeSpec: "relope serve",
        VllmCommandSpec: "a vLLM server",
        ViewSpec: "relope view",
    }
    usual = {int(kind.model_fields["port"].default): server for kind, server in servers.items()}
    return [
        lambda: [software.python()],
        software.packages,
        lambda: [software.extras()],
        accelerator.compute,
        lambda: [software.vllm(spec.vllm_python)],
        lambda: folder.folder(spec.out),
        reach.hub,
        lambda: [reach.clouds()],
        lambda: reach.ports(usual),
    ]


STEP = Step(run, output, version=1)
