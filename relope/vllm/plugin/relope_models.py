"""Classes of vLLM with what they lack to hand states over: the interface ``SupportsEagle3``.

Gemma 3's decoder learns here to keep states. A class whose decoder does, that of another one which has the interface,
lacks its name alone.

Source: vLLM 0.32, ``model_executor/models/gemma3.py`` (``Gemma3Model.forward``), ``model_executor/models/llama.py``
(``LlamaModel.forward``, which keeps states), ``model_executor/models/interfaces.py``.
"""

import re
from typing import Any
from unittest.mock import patch

import torch
from vllm.compilation.decorators import support_torch_compile
from vllm.model_executor.models import gemma3, gemma3_mm, interns1
from vllm.model_executor.models.interfaces import EagleModelMixin, SupportsEagle3
from vllm.model_executor.models.utils import WeightsMapper
from vllm.sequence import IntermediateTensors


@support_torch_compile
class Gemma3Model(gemma3.Gemma3Model, EagleModelMixin):
    """Gemma 3's decoder, with the states of chosen blocks; all of it on one rank of a pipeline."""

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor | tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the normed states ``[T, H]`` of the last block, and the outputs of the chosen ones."""
        hidden_states = self.embed_input_ids(input_ids) if inputs_embeds is None else inputs_embeds
        residual, kept = None, self._maybe_add_hidden_state([], 0, hidden_states, None)
        for number, layer in enumerate(self.layers, 1):
            hidden_states, residual = layer(positions, hidden_states, residual, **kwargs)
            # A block's output is the sum of the two; vLLM sums them in the norm of the next block.
            self._maybe_add_hidden_state(kept, number, hidden_states, residual)
        hidden_states, _ = self.norm(hidden_states, residual)
        return (hidden_states, kept) if kept else hidden_states


class Gemma3ForCausalLM(gemma3.Gemma3ForCausalLM, SupportsEagle3):
    """Gemma 3 without images, and what the class with images makes its decoder of."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        """Make it with the decoder above.

        Raises:
            ValueError: it would be spread over a pipeline, whose ranks would have to hand states on.
        """
        if vllm_config.parallel_config.pipeline_parallel_size > 1:
            raise ValueError("Gemma 3 hands no states over where it is spread over a pipeline; use tensor parallelism")
        with patch.object(gemma3, "Gemma3Model", Gemma3Model):
            super().__init__(vllm_config=vllm_config, prefix=prefix)


class Gemma3ForConditionalGeneration(gemma3_mm.Gemma3ForConditionalGeneration, SupportsEagle3):
    """Gemma 3; also of a checkpoint that transformers 5 has saved, which names the tower's weights anew."""

    hf_to_vllm_mapper = gemma3_mm.Gemma3ForConditionalGeneration.hf_to_vllm_mapper | WeightsMapper(
        orig_to_new_regex={re.compile(r"^(model\.)?vision_tower\.(?!vision_model\.)"): "vision_tower.vision_model."}
    )


class InternVLForConditionalGeneration(interns1.InternS1ForConditionalGeneration, SupportsEagle3):
    """InternVL as transformers has it; vLLM reads it by the class of Intern-S1."""
