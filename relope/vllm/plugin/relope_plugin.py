"""What vLLM runs first in each of its processes: makes our classes known, and keeps images of Gemma 3 whole.

vLLM finds `register` by the entry point ``vllm.general_plugins`` of the ``.dist-info`` beside this file, which Python
finds wherever this folder is on its path: nothing is installed.

Tokens of an image that read each other must be read in one step, since what comes later is not in the cache. vLLM
leaves an image to the next step where it would be cut, but not where a step begins with it, or within it behind a
cached page; others that are read in the same step then leave too few tokens for it.

Source: vLLM 0.32, ``plugins/__init__.py``, ``model_executor/models/registry.py``, ``v1/core/sched/scheduler.py``
(``_try_schedule_encoder_inputs``: ``num_computed_tokens < start_pos``).
"""

import functools
from collections.abc import Callable
from typing import Any

CLASSES = ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "InternVLForConditionalGeneration")


def uncut(schedule: Callable[..., Any]) -> Callable[..., Any]:
    """Return a scheduler's method that leaves a request to the next step rather than cut an image."""

    @functools.wraps(schedule)
    def scheduled(self: Any, request: Any, computed: int, new: int, budget: int, *args: Any, **more: Any) -> Any:
        made = schedule(self, request, computed, new, budget, *args, **more)
        reads_whole = self.vllm_config.model_config.is_mm_prefix_lm
        return ([], 0, budget, [], []) if reads_whole and _cuts(request, computed + made[1]) else made

    return scheduled


def _cuts(request: Any, end: int) -> bool:
    """Return whether a step that ends there has a part of an image; the line ends around one are none."""
    images = (feature.mm_position for feature in request.mm_features or ())
    met = (image for image in images if image.offset < end < image.offset + image.length)
    return any(first < end <= last for image in met for first, last in image.extract_embeds_range())


def register() -> None:
    """Do both, in this process."""
    from vllm.model_executor.models.registry import ModelRegistry
    from vllm.v1.core.sched.scheduler import Scheduler

    for name in CLASSES:
        ModelRegistry.register_model(name, f"relope_models:{name}")
    Scheduler._try_schedule_encoder_inputs = uncut(Scheduler._try_schedule_encoder_inputs)
