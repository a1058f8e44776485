"""Steps: one file each, run from the command line, from pipelines.yaml and from Python.

A new step is a specification in ``relope.spec`` and a file here that exports ``STEP``.
"""

from relope.steps.step import Step, open_step, run, step_of, versions_of

__all__ = ["Step", "open_step", "run", "step_of", "versions_of"]
