"""Which share of the units a process computes: told by hand, or by the variables of what has started it.

Shares are of the plan, so that all of them together are the run that one process would make. The variables are read,
never set:

- torchrun: ``RANK``, ``WORLD_SIZE`` (https://docs.pytorch.org/docs/stable/elastic/run.html)
- SkyPilot: ``SKYPILOT_NODE_RANK``, ``SKYPILOT_NUM_NODES``
  (https://docs.skypilot.co/en/stable/running-jobs/environment-variables.html)
- SLURM: of an array ``SLURM_ARRAY_TASK_ID``, ``_MIN``, ``_STEP``, ``_COUNT``
  (https://slurm.schedmd.com/job_array.html), of the tasks of an ``srun`` ``SLURM_PROCID``, ``SLURM_STEP_NUM_TASKS``
  (https://slurm.schedmd.com/srun.html)
- Kubernetes: ``JOB_COMPLETION_INDEX`` of an indexed job (https://kubernetes.io/docs/concepts/workloads/controllers/job/);
  how many there are no variable says, so the job says it in ``RELOPE_SHARDS``
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from relope.errors import InvalidInputError

T = TypeVar("T")
COUNT = "RELOPE_SHARDS"
_BY_HAND = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,5})")
_SAY = "say it: --shard 1/4"


@dataclass(frozen=True)
class Shard:
    """One of several shares.

    Attributes:
        index: from 0.
        count: of the shares.
    """

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        """Return it as it is typed, counted from 1."""
        return f"{self.index + 1}/{self.count}"

    def of(self, items: Sequence[T]) -> list[T]:
        """Return every ``count``-th item, so that shares differ by one item at most."""
        return list(items[self.index :: self.count])


def read_shard(text: str, variables: Mapping[str, str]) -> Shard:
    """Return the share that is asked for.

    Args:
        text: ``i/n`` counted from 1, or ``auto``.
        variables: of the environment.

    Raises:
        InvalidInputError: the text is neither, or the variables do not tell one share.
    """
    if text == "auto":
        return _started_as(variables)
    told = _BY_HAND.fullmatch(text)
    if not told or int(told[1]) > int(told[2]):
        raise InvalidInputError(f"shard {text!r} is neither auto nor one of n, from 1/n to n/n", hint=_SAY)
    return Shard(int(told[1]) - 1, int(told[2]))


def _started_as(variables: Mapping[str, str]) -> Shard:
    """Return the share by the innermost of what has started this process; an array of SLURM stands around its tasks."""
    if "JOB_COMPLETION_INDEX" in variables and COUNT not in variables:
        raise InvalidInputError(
            "JOB_COMPLETION_INDEX is set, and nothing says of how many", hint=f"set {COUNT} to the job's completions"
        )
    array, outer = _array(variables), _pair(variables, "JOB_COMPLETION_INDEX", COUNT)
    inner = _pair(variables, "RANK", "WORLD_SIZE") or _pair(variables, "SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES")
    if inner and (array or outer):
        both = ["RANK" if "RANK" in variables else "SKYPILOT_NODE_RANK"]
        both.append("SLURM_ARRAY_TASK_ID" if array else "JOB_COMPLETION_INDEX")
        raise InvalidInputError(f"{' and '.join(both)} are both set; they tell two shares", hint=_SAY)
    if declared := inner or outer:
        return declared
    tasks = _pair(variables, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
    if array or tasks:
        around, within = array or Shard(), tasks or Shard()
        return Shard(around.index * within.count + within.index, around.count * within.count)
    raise InvalidInputError("no variable of torchrun, SLURM, Kubernetes or SkyPilot tells a shard", hint=_SAY)


def _array(variables: Mapping[str, str]) -> Shard | None:
    if "SLURM_ARRAY_TASK_ID" not in variables:
        return None
    first, step = _number(variables, "SLURM_ARRAY_TASK_MIN"), _number(variables, "SLURM_ARRAY_TASK_STEP", 1)
    index, uneven = divmod(_number(variables, "SLURM_ARRAY_TASK_ID") - first, max(step, 1))
    count = _number(variables, "SLURM_ARRAY_TASK_COUNT")
    if uneven or not 0 <= index < count:
        raise InvalidInputError(
            f"the indices of the SLURM array are not {count} in equal steps from {first}", hint="e.g. --array=0-7"
        )
    return Shard(index, count)


def _pair(variables: Mapping[str, str], index: str, count: str) -> Shard | None:
    if index not in variables or count not in variables:
        return None
    shard = Shard(_number(variables, index), _number(variables, count))
    if shard.index >= shard.count:
        raise InvalidInputError(f"{index} is {shard.index}, and must be below {count}, {shard.count}")
    return shard


def _number(variables: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = variables.get(name, "" if default is None else str(default))
    if not text.isascii() or not text.isdigit():
        raise InvalidInputError(f"the variable {name} is {text!r}, and must be a whole number", hint=_SAY)
    return int(text)
