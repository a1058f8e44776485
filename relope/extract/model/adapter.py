"""PEFT adapters: folders that name the model they were trained on, and LoRAs that are merged into weights."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from relope.errors import NotFoundError, RelopeError, UnsupportedError, reason_of
from relope.extract.model.interfaces import Model
from relope.provenance import digest, file_digest

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_LARGEST_BYTES = 1 << 20
_ELSEWHERE = ("base_model_name_or_path", "revision")
"""Where an adapter's base was found when it was trained: the base's own files say which one it is."""


def is_adapter(folder: Path) -> bool:
    """Return whether a folder is a PEFT adapter, which names its base.

    Raises:
        UnsupportedError: a model's own weights and an adapter lie side by side.
    """
    beside = sorted(path.name for path in folder.glob("adapter_*") if path.name.startswith((CONFIG, "adapter_model.")))
    is_model = (folder / "config.json").is_file()  # without one, other weights belong to no model: a router's head
    own = sorted(path.name for path in folder.glob("*.safetensors") if not path.name.startswith("adapter_"))
    if beside and own and is_model:
        raise UnsupportedError(
            f"{folder} holds a model's weights ({own[0]}) and an adapter ({beside[0]}) side by side: whether the "
            "adapter is in the weights already cannot be told",
            hint="move the adapter's files away when they are merged, else into a folder of their own for --model",
        )
    return CONFIG in beside


def read_config(folder: Path) -> dict[str, Any]:
    """Return an adapter's configuration.

    Raises:
        UnsupportedError: it is no JSON object, or far too large for one.
    """
    path = folder / CONFIG
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise UnsupportedError(f"{path} has more than {_LARGEST_BYTES >> 20} MiB")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnsupportedError(f"{path} cannot be read: {reason_of(error)}") from error
    if not isinstance(config, dict):
        raise UnsupportedError(f"{path} holds no JSON object")
    return config


def base_of(folder: Path) -> tuple[str, str]:
    """Return what an adapter's base is opened by, and the hub revision that it asks for.

    A folder is looked for as it is written, then from the adapter's own folder.

    Raises:
        UnsupportedError: the adapter names no base.
    """
    config = read_config(folder)
    named, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(named, str) or not named.strip():
        raise UnsupportedError(
            f"the adapter {folder} does not name its base",
            hint=f'write it into {CONFIG}: "base_model_name_or_path": a hub id or a folder',
        )
    beside = folder / named
    named = str(beside) if not Path(named).exists() and beside.is_dir() else named
    return named, revision if isinstance(revision, str) else ""


def adapter_digest(folder: Path) -> str:
    """Return the digest of everything in an adapter that decides numbers: its settings and its weights."""
    settings = {key: value for key, value in read_config(folder).items() if key not in _ELSEWHERE}
    return digest([settings, [[path.name, file_digest(path)] for path in sorted(folder.glob("adapter_*.safetensors"))]])


def check_adapter(folder: Path) -> None:
    """Refuse an adapter that cannot be merged.

    Raises:
        NotFoundError: the folder lacks one of its two files.
        UnsupportedError: it is of a kind that leaves the weights as they are.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise NotFoundError(f"the adapter {folder} lacks {name}")
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    config = read_config(folder)
    kind = str(config.get("peft_type") or "?")
    kinds: Any = PEFT_TYPE_TO_CONFIG_MAPPING
    unmerged = kind not in kinds or kinds[kind]().is_prompt_learning or kind in ("ADAPTION_PROMPT", "XLORA")
    if unmerged or config.get("alora_invocation_tokens"):
        raise UnsupportedError(
            f"the adapter {folder} is of the kind {kind}, which cannot be merged into weights",
            hint="a LoRA can be merged; give the folder of one, or of a whole checkpoint",
        )


def merged(model: Model, folder: Path) -> Model:
    """Return the model with an adapter merged into its weights.

    Raises:
        NotFoundError: the folder lacks one of the adapter's files.
        UnsupportedError: the adapter does not fit the model, or cannot be merged.
    """
    check_adapter(folder)
    from peft import PeftModel

    try:
        with warnings.catch_warnings():  # peft 0.21 uses a name that transformers 5.23 is about to drop
            warnings.simplefilter("ignore")
            # Made without memory: a rank of a billion must not be allocated before the files are looked at.
            adapted: Any = PeftModel.from_pretrained(model, str(folder), low_cpu_mem_usage=True)
            # Loaded again, to be told of keys that do not match.
            report = adapted.load_adapter(str(folder), "default", low_cpu_mem_usage=True)
            _check_keys(folder, sorted(report.missing_keys), sorted(report.unexpected_keys))
            whole: Model = adapted.merge_and_unload()
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, OSError, SafetensorError) as error:
        if isinstance(error, RelopeError):
            raise
        raise UnsupportedError(f"the adapter {folder} does not fit its model: {reason_of(error)}") from error
    return whole


def _check_keys(folder: Path, missing: Sequence[str], unexpected: Sequence[str]) -> None:
    for what, keys in (("lacks", missing), ("holds, without a place for them,", unexpected)):
        if keys:
            raise UnsupportedError(
                f"the adapter {folder} does not fit its model: it {what} {len(keys)} weights (first: {keys[0]})"
            )
