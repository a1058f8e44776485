"""As much of vLLM as our connector imports, so that it runs here without it."""

import enum
import importlib.util
import logging
import sys
import types
from contextlib import contextmanager
from pathlib import Path

PLUGIN = Path(__file__).parents[2] / "relope" / "vllm" / "plugin" / "relope_states.py"


class RequestStatus(enum.IntEnum):
    RUNNING = 1
    FINISHED_STOPPED = 2
    FINISHED_LENGTH_CAPPED = 3
    FINISHED_ABORTED = 4


class KVConnectorBase_V1:
    def __init__(self, vllm_config, role, kv_cache_config):
        self._vllm_config, self._kv_transfer_config = vllm_config, vllm_config.kv_transfer_config
        self.bound = None

    def has_connector_metadata(self):
        return self.bound is not None

    def _get_connector_metadata(self):
        return self.bound


class HiddenStateCacheSpec:
    pass


_MODULES = {
    "vllm": {},
    "vllm.config": {"get_layers_from_vllm_config": lambda config, kind, names: dict.fromkeys(names)},
    "vllm.distributed": {},
    "vllm.distributed.kv_transfer": {},
    "vllm.distributed.kv_transfer.kv_connector": {},
    "vllm.distributed.kv_transfer.kv_connector.v1": {},
    "vllm.distributed.kv_transfer.kv_connector.v1.base": {
        "KVConnectorBase_V1": KVConnectorBase_V1, "KVConnectorMetadata": object, "SupportsHMA": object,
    },
    "vllm.distributed.parallel_state": {"get_tensor_model_parallel_rank": lambda: 0},
    "vllm.logger": {"init_logger": logging.getLogger},
    "vllm.model_executor": {},
    "vllm.model_executor.models": {},
    "vllm.model_executor.models.extract_hidden_states": {"CacheOnlyAttentionLayer": object},
    "vllm.v1": {},
    "vllm.v1.kv_cache_interface": {"HiddenStateCacheSpec": HiddenStateCacheSpec},
    "vllm.v1.request": {"RequestStatus": RequestStatus},
}  # fmt: skip


@contextmanager
def connector_module():
    """Give our connector's module, loaded beside the fake."""
    assert "vllm" not in sys.modules
    for name, holds in _MODULES.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(holds)
    try:
        spec = importlib.util.spec_from_file_location("relope_states", PLUGIN)
        module = importlib.util.module_from_spec(spec)
        sys.modules["relope_states"] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        for name in (*_MODULES, "relope_states"):
            sys.modules.pop(name, None)


def configured(folder, layers, groups=(), **more):
    """What a connector is made from: its configurations of vLLM and of the cache."""
    extra = {"folder": str(folder), **more}
    given = types.SimpleNamespace(get_from_extra_config=lambda name, default: extra.get(name, default))
    draft = types.SimpleNamespace(hf_config=types.SimpleNamespace(eagle_aux_hidden_state_layer_ids=list(layers)))
    speculative = types.SimpleNamespace(method="extract_hidden_states", draft_model_config=draft)
    config = types.SimpleNamespace(kv_transfer_config=given, speculative_config=speculative)
    return config, types.SimpleNamespace(kv_cache_groups=[types.SimpleNamespace(kv_cache_spec=spec) for spec in groups])


def ended(prompt, said=(), wants="prompt", status=RequestStatus.FINISHED_STOPPED, name="req-1"):
    """A request that has ended."""
    return types.SimpleNamespace(
        request_id=name, prompt_token_ids=list(prompt), all_token_ids=[*prompt, *said], status=status,
        kv_transfer_params=None if wants is None else {"relope_states": wants},
    )  # fmt: skip
