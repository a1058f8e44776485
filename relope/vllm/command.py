"""The command that starts a vLLM server which hands states over, and what it can be started for."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError, NotFoundError, UnsupportedError
from relope.provenance import digest

PLUGIN = Path(__file__).parent / "plugin"
"""What the server imports from: connector and plug-in lie there alone, with nothing of this environment."""

PAGE = 32
"""Tokens of a page of the KV cache; on a CPU it must be a multiple of 32."""

NATIVE = (
    "Gemma4ForConditionalGeneration",
    "GptOssForCausalLM",
    "LlamaForCausalLM",
    "LlavaForConditionalGeneration",
    "Mistral3ForConditionalGeneration",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3ForCausalLM",
    "Qwen3MoeForCausalLM",
    "Qwen3VLForConditionalGeneration",
)
"""Classes whose states vLLM hands over: those with its interface ``SupportsEagle3``."""

OURS = ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", "InternVLForConditionalGeneration")
"""Classes that have it by our plug-in, ``plugin/relope_models.py``."""

DROPPED = {"Phi4MultimodalForCausalLM": "it has dropped the class in 0.12"}
"""Classes that vLLM does not have at all, and why."""

MACHINE = (
    "--cpu-offload-gb", "--device-ids", "--disable-custom-all-reduce", "--distributed-executor-backend",
    "--download-dir", "--enforce-eager", "--gpu-memory-utilization", "--kv-cache-memory-bytes", "--max-model-len",
    "--max-num-batched-tokens", "--max-num-seqs", "--max-parallel-loading-workers", "--mm-processor-cache-gb",
    "--numa-bind", "--tensor-parallel-size",
)  # fmt: skip
"""Arguments of a server that say what it may take of its machine, and nothing of what it computes."""

ANY_IMAGES = 999
"""As vLLM has it where nothing is said: what a prompt holds is bound by the context."""

_LACKS = "the class lacks its interface SupportsEagle3"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A vLLM server that hands states over.

    Attributes:
        checkpoint: folder of the model, or its hub id.
        name: that it serves the model under; see `served_name`.
        layers: blocks whose states it hands over, 1-based, ascending; 0: the embeddings.
        dtype: ``float32`` or ``bfloat16``.
        folder: that states are left in.
        host: that it listens at.
        port: that it listens at.
        context: longest prompt with its answer, in tokens; None = the model's.
        chat_template: file of the one that takes the place of the model's own.
        images: most images of a request; 0 for a text-only model.
        processor: settings of the processor, such as the fewest and most pixels of an image.
        rows: most requests at once.
        batch_tokens: most tokens of one step; longer prompts are read in chunks.
        whole_images: whether no image is cut in two steps, since its tokens read each other; see `reads_images_whole`.
        revision: of the hub.
        more: arguments that follow, as they are.
    """

    checkpoint: str
    name: str
    layers: tuple[int, ...]
    dtype: str
    folder: Path
    host: str = "127.0.0.1"
    port: int = 8001
    context: int | None = None
    chat_template: Path | None = None
    images: int = 16
    processor: Mapping[str, Any] | None = None
    rows: int | None = None
    batch_tokens: int | None = None
    whole_images: bool = False
    revision: str = ""
    more: Sequence[str] = ()

    def arguments(self) -> list[str]:
        """Return the arguments of vLLM's OpenAI server."""
        optional = {
            "--revision": self.revision or None,
            "--max-model-len": self.context,
            "--chat-template": self.chat_template,
            "--max-num-seqs": self.rows,
            "--max-num-batched-tokens": self.batch_tokens,
            "--mm-processor-kwargs": json.dumps(self.processor) if self.processor else None,
            "--limit-mm-per-prompt": json.dumps({"image": self.images, "video": 0}) if self.images else None,
        }
        return [
            *("--model", self.checkpoint),
            *("--served-model-name", self.name),
            *("--host", self.host),
            *("--port", str(self.port)),
            *("--dtype", self.dtype),
            *("--block-size", str(PAGE)),
            *(word for flag, value in optional.items() if value is not None for word in (flag, str(value))),
            *(("--disable-chunked-mm-input",) if self.whole_images else ()),
            *("--speculative-config", json.dumps(_extracting(self.layers))),
            *("--kv-transfer-config", json.dumps(_connected(self.folder))),
            *self.more,
        ]

    def environment(self, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return what the server's environment has besides: where our connector is, and no word to its makers.

        Args:
            inherited: the environment that it is added to, whose own paths stay: a module may bring vLLM by them.
        """
        paths = [str(PLUGIN), *filter(None, [(inherited or {}).get("PYTHONPATH")])]
        return {"PYTHONPATH": os.pathsep.join(paths), "VLLM_NO_USAGE_STATS": "1"}

    def command(self, python: str = "python") -> list[str]:
        """Return the whole command; ``python`` is that of vLLM's environment."""
        return [python, "-m", "vllm.entrypoints.openai.api_server", *self.arguments()]

    def line(self, python: str = "python") -> str:
        """Return the command as a shell takes it, its environment in front."""
        environment = {name: shlex.quote(value) for name, value in self.environment().items()}
        environment["PYTHONPATH"] += "${PYTHONPATH:+:$PYTHONPATH}"
        return " ".join([*(f"{name}={value}" for name, value in environment.items()), shlex.join(self.command(python))])


def _extracting(layers: Sequence[int]) -> dict[str, Any]:
    return {
        "method": "extract_hidden_states",
        "num_speculative_tokens": 1,
        "draft_model_config": {"hf_config": {"eagle_aux_hidden_state_layer_ids": list(layers)}},
    }


def _connected(folder: Path) -> dict[str, Any]:
    return {
        "kv_connector": "RelopeStates",
        "kv_connector_module_path": "relope_states",
        "kv_role": "kv_producer",
        "kv_connector_extra_config": {"folder": str(folder)},
    }


def check_arguments(arguments: Sequence[str], url: str | None) -> None:
    """Refuse arguments of a server that is not started here, or by which its numbers might be others than the model's.

    Args:
        arguments: as vLLM takes them.
        url: of a server that runs; None = one is started.

    Raises:
        InvalidInputError: there is such a server, or one is none of `MACHINE`.
    """
    if arguments and url:
        raise InvalidInputError(
            f"vllm_argument is for a server that is started, and {url} runs", hint="drop --vllm-argument"
        )
    for argument in arguments:
        if argument.partition("=")[0] not in MACHINE:
            raise InvalidInputError(
                f"{argument!r} is no argument that a server is started with here; allowed: {', '.join(MACHINE)}",
                hint="write --vllm-argument=--tensor-parallel-size=2, or start the server yourself and give --vllm-url",
            )


def served_name(model: str, identity: Mapping[str, Any], layers: Sequence[int]) -> str:
    """Return the name that a server has its model under: a server of other weights or blocks has another.

    Args:
        model: name of the model; of a folder, its last part.
        identity: what decides its numbers, as a store or a bundle has it.
        layers: blocks whose states are handed over.
    """
    return f"{model.rstrip('/').rpartition('/')[2]}@{digest([identity, list(layers)])[:12]}"


def reads_images_whole(checkpoint: Path) -> bool:
    """Return whether the tokens of an image read each other, in a checkpoint that `check_class` has taken."""
    return _architecture(_config(checkpoint)) == "Gemma3ForConditionalGeneration"


def check_class(checkpoint: Path, name: str, layers: Sequence[int]) -> None:
    """Refuse a model whose states vLLM does not hand over, or would hand over otherwise.

    Args:
        checkpoint: folder of the model.
        name: what messages call it.
        layers: blocks whose states are wanted.

    Raises:
        NotFoundError: there is no configuration.
        UnsupportedError: its class gives no states, or not those of these blocks.
    """
    config = _config(checkpoint)
    architecture = _architecture(config)
    if architecture not in (*NATIVE, *OURS):
        raise UnsupportedError(
            f"vLLM hands over no states of {architecture or 'a model without a class'} ({name}): "
            f"{DROPPED.get(architecture, _LACKS)}",
            hint="use --engine transformers",
        )
    _check_deepstack(architecture, config, layers)
    _check_images(architecture, config)


def _config(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / "config.json"
    if not path.is_file():
        raise NotFoundError(f"{checkpoint} holds no config.json")
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def _architecture(config: Mapping[str, Any]) -> str:
    return next(iter(config.get("architectures") or ()), "")


def _check_deepstack(architecture: str, config: Mapping[str, Any], layers: Sequence[int]) -> None:
    added = len((config.get("vision_config") or {}).get("deepstack_visual_indexes") or ())
    early = [layer for layer in layers if 0 < layer <= added]
    if early:
        raise UnsupportedError(
            f"{architecture} adds image features behind its first {added} blocks; vLLM hands block {early[0]} over "
            "with them, transformers without",
            hint=f"read a layer above {added + 1}, or use --engine transformers",
        )


def _check_images(architecture: str, config: Mapping[str, Any]) -> None:
    """Refuse attention in both directions that vLLM's is not shown to be the same as."""
    text = config.get("text_config") or config
    asked = text.get("use_bidirectional_attention")
    if asked:
        raise UnsupportedError(
            f"{architecture} attends in both directions here (use_bidirectional_attention {asked}), which vLLM is not "
            "shown to do as transformers does",
            hint="use --engine transformers",
        )
    tokens, window = config.get("mm_tokens_per_image") or 0, text.get("sliding_window") or 0
    if architecture.startswith("Gemma3") and 0 < window < tokens:
        raise UnsupportedError(
            f"an image of {tokens} tokens is longer than the {window} that {architecture} attends to in its sliding "
            "blocks; vLLM reads such an image as text",
            hint="use --engine transformers",
        )
