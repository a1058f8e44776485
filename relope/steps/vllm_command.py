"""The step ``vllm-command``: the vLLM server that a bundle needs, as a command."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from relope.spec import VllmCommandSpec
from relope.steps.step import Step
from relope.types import Outcome, Watch

if TYPE_CHECKING:
    from relope.vllm.command import Server


def output(spec: VllmCommandSpec) -> Path:
    """Return the bundle: nothing but a chat template of its own is written, beside it."""
    return spec.bundle


def check(spec: VllmCommandSpec) -> None:
    """Refuse what is no bundle, and a Python without vLLM where the command is to be run."""
    from relope.serve.bundle import load_bundle
    from relope.vllm.process import check_python

    load_bundle(spec.bundle)
    if spec.run:
        check_python(spec.python)


def run(spec: VllmCommandSpec, watch: Watch) -> Outcome:
    """Print the command, or become it."""
    check(spec)
    server = _server(spec)
    command = server.command(spec.python)
    if spec.run:
        os.execvpe(command[0], command, {**os.environ, **server.environment(os.environ)})
    facts = {
        "command": command,
        "environment": server.environment(),
        "url": f"http://{server.host}:{server.port}",
        "name": server.name,
        "layers": list(server.layers),
        "states": str(server.folder),
    }
    return Outcome(spec.bundle, False, server.line(spec.python), facts, payload=facts)


def _server(spec: VllmCommandSpec) -> "Server":
    """Return the server of a bundle.

    Raises:
        RelopeError: the model is not the bundle's, or vLLM gives no such states.
    """
    from relope.probes.router import load_router
    from relope.serve.apart.server import server_of, with_template
    from relope.serve.bundle import load_bundle
    from relope.serve.engine import EngineSettings
    from relope.serve.local.backbone import open_served
    from relope.vllm.states import default_folder

    bundle = load_bundle(spec.bundle)
    backbone = open_served(bundle, EngineSettings(model=spec.model or ""), runs=False)
    states = (spec.states or default_folder()).resolve()
    server = server_of(bundle, load_router(spec.bundle), backbone, states)
    server = replace(
        server,
        host=spec.host,
        port=spec.port,
        images=min(server.images, spec.max_images),
        more=(*server.more, *spec.argument),
    )
    folder = spec.bundle.resolve()
    return with_template(server, bundle, folder.with_name(f"{folder.name}.chat_template.jinja"))


STEP = Step(run, output, version=1, check=check)
