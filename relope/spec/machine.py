"""What is told of the machine that all this runs on."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from relope.fields import Metavar, Spec


class DoctorSpec(Spec, step="doctor"):
    """Look at this machine: packages, GPU, disk, hub, clouds, ports; say what is wrong and what to do."""

    out: Path = Field(Path("runs"), description="folder that results will go to: its disk is tried out")
    vllm_python: Annotated[str | None, Metavar("PYTHON")] = Field(
        None, description="Python of the environment that vLLM is installed in"
    )
