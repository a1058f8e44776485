"""The KV connector that a vLLM server loads: hands the states of chosen decoder blocks over, in a file a request.

vLLM imports this module by name, in an environment of its own: it reads the standard library, torch and vLLM, and
nothing of relope or of what relope needs. vLLM's method ``extract_hidden_states`` keeps the states of the blocks in
pages of the KV cache, so that tokens that were cached, or read in chunks, have theirs, too.

A request that says ``"kv_transfer_params": {"relope_states": "prompt"}`` (or ``"all"``: of its answer's tokens, too,
but the last) is told ``{"relope_states": {"file", "layers", "tokens"}}`` with its answer. The file appears within the
next step, whole, under that name in the folder that both sides see; who reads it removes it. It has the layout of
safetensors: ``block.<l>`` ``[T, H]`` in the model's dtype, ``token_ids`` ``[T] int64``. A file of less than eight bytes
says that it could not be written: it holds the system's ``errno`` in digits, or nothing. Files that nobody has fetched
go after ``keep_s`` seconds.

Source: vLLM 0.32, ``distributed/kv_transfer/kv_connector/v1/example_hidden_states_connector.py`` (which files there
are, and when), ``v1/worker/gpu_model_runner.py``.
"""

import contextlib
import json
import os
import re
import stat
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from vllm.config import get_layers_from_vllm_config
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, KVConnectorMetadata, SupportsHMA
from vllm.distributed.parallel_state import get_tensor_model_parallel_rank
from vllm.logger import init_logger
from vllm.model_executor.models.extract_hidden_states import CacheOnlyAttentionLayer
from vllm.v1.kv_cache_interface import HiddenStateCacheSpec
from vllm.v1.request import RequestStatus

logger = init_logger(__name__)

ASK = "relope_states"
_OURS = re.compile(r"[0-9a-f]{32}\.safetensors(\.part)?")
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}
_DONE = (RequestStatus.FINISHED_STOPPED, RequestStatus.FINISHED_LENGTH_CAPPED)


@dataclass
class Wanted:
    """The states of one request that has ended.

    Attributes:
        request_id: vLLM's name of it.
        file: name of the file.
        token_ids: whose states are wanted.
        block_ids: pages that hold them.
    """

    request_id: str
    file: str
    token_ids: list[int]
    block_ids: list[int]


@dataclass
class Ended(KVConnectorMetadata):
    """What the scheduler tells the worker with its next step."""

    wanted: list[Wanted] = field(default_factory=list)


class RelopeStates(KVConnectorBase_V1, SupportsHMA):
    """One object in the scheduler, which says what is wanted, and one in each worker, the first of which writes it."""

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any) -> None:
        """Make ready in a role; ``kv_connector_extra_config`` says the folder, and how long files are kept there."""
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        speculative = vllm_config.speculative_config
        if speculative is None or speculative.method != "extract_hidden_states":
            raise ValueError("RelopeStates needs the speculative method extract_hidden_states")
        self._layers = [int(n) for n in speculative.draft_model_config.hf_config.eagle_aux_hidden_state_layer_ids]
        asked = self._kv_transfer_config.get_from_extra_config
        self._folder, self._keep_s = str(asked("folder", "")), float(asked("keep_s", 600.0))
        if not os.path.isabs(self._folder):
            raise ValueError(f"RelopeStates needs the path of a folder (got {self._folder!r})")
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        status = os.lstat(self._folder)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise ValueError(
                f"RelopeStates needs a folder of this user alone: {self._folder} is of user {status.st_uid}, with mode "
                f"{status.st_mode:o}"
            )
        groups = kv_cache_config.kv_cache_groups
        held = [number for number, group in enumerate(groups) if isinstance(group.kv_cache_spec, HiddenStateCacheSpec)]
        if len(held) != 1 and len(groups) != 1:
            raise ValueError(f"{len(held)} of {len(groups)} groups of the KV cache hold hidden states, not one")
        self._group = held[0] if held else 0
        self._wanted: list[Wanted] = []
        self._pages: torch.Tensor | None = None
        self._writes = False
        self._writer = ThreadPoolExecutor(2, "relope-states")
        self._swept = 0.0

    # In the scheduler

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        """Return that nothing is loaded from elsewhere."""
        return 0, False

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Do nothing: nothing is loaded."""

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        """Return what has ended since the last step."""
        wanted, self._wanted = self._wanted, []
        return Ended(wanted)

    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        """Note what an ended request wants; its pages are kept until the worker has copied them."""
        which = (request.kv_transfer_params or {}).get(ASK)
        if which not in ("prompt", "all") or request.status not in _DONE or request.prompt_token_ids is None:
            return False, None
        # The last token of an answer was never read, so that nothing of it is in the cache.
        ids = list(request.prompt_token_ids if which == "prompt" else request.all_token_ids[:-1])
        file = f"{uuid.uuid4().hex}.safetensors"
        self._wanted.append(Wanted(request.request_id, file, ids, list(block_ids)))
        return True, {ASK: {"file": file, "layers": self._layers, "tokens": len(ids)}}

    def request_finished_all_groups(
        self, request: Any, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        """Note what an ended request wants, of the pages that hold states."""
        return self.request_finished(request, block_ids[self._group]) if self._group < len(block_ids) else (False, None)

    def get_finished_count(self) -> int:
        """Return how many workers say that a request's pages are free: the first of a tensor-parallel group does."""
        return 1

    # In a worker

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Keep the pages ``[pages, blocks of the decoder, tokens of a page, H]`` that hold the states."""
        holders = get_layers_from_vllm_config(self._vllm_config, CacheOnlyAttentionLayer, list(kv_caches))
        if len(holders) != 1:
            raise ValueError(f"{len(holders)} layers hold hidden states, not one")
        self._pages, self._writes = kv_caches[next(iter(holders))], get_tensor_model_parallel_rank() == 0
        if self._pages.ndim != 4 or self._pages.shape[1] != len(self._layers):
            raise ValueError(f"pages of {tuple(self._pages.shape)} do not hold the blocks {self._layers}")
        if self._pages.device.type == "cpu":
            with contextlib.suppress(ImportError):
                import relope_cpu

                relope_cpu.mend()

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Do nothing: nothing is loaded."""

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Do nothing: nothing is loaded."""

    def save_kv_layer(self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any) -> None:
        """Do nothing: the layer that keeps the states has done so."""

    def wait_for_save(self) -> None:
        """Do nothing: pages are copied when a request has ended."""

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """Copy what has ended; return whose pages may be given to others.

        The copy is queued on the stream that writes the pages, behind the forward pass that has filled them and
        before any that could fill them anew.
        """
        meta = self._get_connector_metadata() if self.has_connector_metadata() else None
        if not self._writes or not isinstance(meta, Ended) or not meta.wanted:
            return None, None
        for wanted in meta.wanted:
            try:
                tensors, copied = self._copied(wanted)
                self._writer.submit(self._write, wanted.file, tensors, copied)
            except Exception:
                logger.exception("the states of a request could not be copied")
                self._writer.submit(self._give_up, wanted.file)
        return {wanted.request_id for wanted in meta.wanted}, None

    def shutdown(self) -> None:
        """Write what is left."""
        self._writer.shutdown(wait=True)

    def _copied(self, wanted: Wanted) -> tuple[dict[str, torch.Tensor], Any]:
        """Return the states of a request on the host, and the event after which they are there; None = at once."""
        assert self._pages is not None
        n = len(wanted.token_ids)
        pages = torch.tensor(wanted.block_ids[: -(-n // self._pages.shape[2])], device=self._pages.device)
        states = self._pages[pages].transpose(0, 1).flatten(1, 2)[:, :n]
        if states.shape[1] != n:
            raise ValueError(f"{states.shape[1]} of {n} tokens are in the cache")
        copied = None
        if states.is_cuda:
            host = torch.empty(states.shape, dtype=states.dtype, pin_memory=True)
            states = host.copy_(states, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        blocks = {f"block.{layer}": states[number] for number, layer in enumerate(self._layers)}
        return {**blocks, "token_ids": torch.tensor(wanted.token_ids, dtype=torch.int64)}, copied

    def _write(self, file: str, tensors: dict[str, torch.Tensor], copied: Any) -> None:
        """Write a file under another name, and give it its own."""
        path = os.path.join(self._folder, file)
        try:
            if copied is not None:
                copied.synchronize()
            with open(os.open(f"{path}.part", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                for piece in pieces_of(tensors):
                    out.write(piece)
            os.rename(f"{path}.part", path)
        except Exception as error:
            logger.exception("states could not be written to %s", self._folder)
            self._give_up(file, error)
        self._sweep()

    def _give_up(self, file: str, error: Exception | None = None) -> None:
        """Leave a file that says why there are no states, so that nobody waits."""
        said = str(getattr(error, "errno", None) or "").encode()
        path = os.path.join(self._folder, file)
        with contextlib.suppress(OSError):
            os.unlink(f"{path}.part")
        with contextlib.suppress(OSError):
            made = os.open(f"{path}.part", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with contextlib.suppress(OSError):
                os.write(made, said)
            os.close(made)
            os.replace(f"{path}.part", path)

    def _sweep(self) -> None:
        """Remove what nobody has fetched; once a minute."""
        now = time.time()
        if now - self._swept < min(60.0, self._keep_s):
            return
        self._swept = now
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if _OURS.fullmatch(entry.name) and now - entry.stat(follow_symlinks=False).st_mtime > self._keep_s:
                        os.unlink(entry.path)


def pieces_of(tensors: dict[str, torch.Tensor]) -> list[bytes | memoryview]:
    """Return the bytes of a safetensors file: the header's length (8 bytes), the header as JSON, the numbers."""
    header, data, end = dict[str, Any](), list[bytes | memoryview](), 0
    for name, tensor in tensors.items():
        numbers = memoryview(tensor.contiguous().view(torch.uint8).numpy()).cast("B")
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + len(numbers)],
        }
        data.append(numbers)
        end += len(numbers)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return [len(head).to_bytes(8, "little"), head, *data]
