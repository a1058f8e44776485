"""Our connector beside a fake of vLLM's classes: what it writes, when and for whom, and what it imports."""

import ast
import errno
import os
import stat
import sys

import pytest
import torch
from fake_vllm import PLUGIN, HiddenStateCacheSpec, RequestStatus, configured, connector_module, ended

from relope.vllm.states import take

LAYERS, PAGE, WIDTH = (3, 4), 4, 8
PAGES = torch.randn(6, len(LAYERS), PAGE, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def module():
    with connector_module() as loaded:
        yield loaded


@pytest.fixture
def pair(module, tmp_path):
    """The connector in the scheduler and in the worker."""

    def make(**more):
        config, cache = configured(tmp_path / "s", LAYERS, (object(), HiddenStateCacheSpec()), **more)
        scheduler, worker = (module.RelopeStates(config, None, cache) for _ in range(2))
        worker.register_kv_caches({"states": PAGES.to(more.get("dtype", torch.float32))})
        return scheduler, worker

    return make


def step(scheduler, worker):
    """One step of the server: the worker is told what has ended; return whose pages it has freed."""
    worker.bound = scheduler.build_connector_meta(None)
    freed, _ = worker.get_finished(set())
    return freed


def test_it_imports_nothing_but_the_standard_library_torch_and_vllm():
    own = {path.stem for path in PLUGIN.parent.glob("*.py")}
    read = {
        name
        for path in PLUGIN.parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module])
    }
    assert {name.partition(".")[0] for name in read} - sys.stdlib_module_names - own == {"torch", "vllm"}
    held = {path.name for path in PLUGIN.parent.iterdir() if path.is_file()}
    assert held == {PLUGIN.name, "relope_cpu.py", "relope_models.py", "relope_plugin.py"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_states_of_a_prompt_are_those_of_its_pages(pair, tmp_path, dtype):
    scheduler, worker = pair(dtype=dtype)
    delayed, told = scheduler.request_finished_all_groups(ended(range(10), said=(7, 8)), ([9], [5, 0, 2]))
    assert delayed and step(scheduler, worker) == {"req-1"} and step(scheduler, worker) is None
    handed = take(tmp_path / "s", told, LAYERS)
    expected = torch.cat([PAGES[page].to(dtype) for page in (5, 0, 2)], 1)[:, :10]
    assert handed.token_ids.tolist() == list(range(10)) and list(handed.blocks) == [3, 4]
    assert all(torch.equal(handed.blocks[layer], expected[number]) for number, layer in enumerate(LAYERS))
    assert list((tmp_path / "s").iterdir()) == []


def test_all_means_the_answer_too_but_for_its_last_token(pair, tmp_path):
    scheduler, worker = pair()
    _, told = scheduler.request_finished_all_groups(ended(range(3), said=(7, 8), wants="all"), ([], [1, 4]))
    step(scheduler, worker)
    handed = take(tmp_path / "s", told, LAYERS)
    assert handed.token_ids.tolist() == [0, 1, 2, 7] and torch.equal(handed.blocks[4], PAGES[1, 1])


@pytest.mark.parametrize(
    "request_", [ended([1], wants=None), ended([1], wants="what"), ended([1], status=RequestStatus.FINISHED_ABORTED)]
)
def test_nothing_is_written_for_who_did_not_ask_or_has_gone(pair, tmp_path, request_):
    scheduler, worker = pair()
    assert scheduler.request_finished_all_groups(request_, ([], [1])) == (False, None)
    assert step(scheduler, worker) is None and list((tmp_path / "s").iterdir()) == []


def test_files_are_the_users_alone_and_those_left_over_go(pair, tmp_path):
    scheduler, worker = pair(keep_s=50.0)
    old, strange = tmp_path / "s" / f"{'a' * 32}.safetensors", tmp_path / "s" / "notes.txt"
    for path in (old, old.with_suffix(".safetensors.part"), strange):
        path.write_bytes(b"x")
        os.utime(path, (1, 1))
    _, told = scheduler.request_finished_all_groups(ended(range(4)), ([], [1]))
    step(scheduler, worker)
    worker.shutdown()
    left = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "s").iterdir()}
    assert left.keys() == {told["relope_states"]["file"], "notes.txt"} and left[told["relope_states"]["file"]] == 0o600
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700


def test_what_cannot_be_written_is_told_at_once(pair, tmp_path, monkeypatch, caplog):
    from relope.vllm.states import StatesError

    scheduler, worker = pair()
    _, told = scheduler.request_finished_all_groups(ended(range(9)), ([], [1, 2]))  # nine tokens, two pages of four
    assert step(scheduler, worker) == {"req-1"}
    with pytest.raises(StatesError, match="could not write states"):
        take(tmp_path / "s", told, LAYERS, timeout_s=5)
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    _, told = scheduler.request_finished_all_groups(ended(range(8)), ([], [1, 2]))
    step(scheduler, worker)
    with pytest.raises(StatesError, match="could not write states"):
        take(tmp_path / "s", told, LAYERS, timeout_s=5)
    worker.shutdown()
    assert list((tmp_path / "s").iterdir()) == [] and "could not be copied" in caplog.text


def test_a_full_file_system_is_told_as_such(pair, tmp_path, monkeypatch):
    from relope.vllm.states import StatesError

    scheduler, worker = pair()
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space left")))
    _, told = scheduler.request_finished_all_groups(ended(range(8)), ([], [1, 2]))
    step(scheduler, worker)
    with pytest.raises(StatesError, match="its file system is full"):
        take(tmp_path / "s", told, LAYERS, timeout_s=5)
    worker.shutdown()
    assert list((tmp_path / "s").iterdir()) == []


def test_a_folder_that_others_can_write_to_or_that_is_a_link_is_refused(module, tmp_path, monkeypatch):
    (tmp_path / "own").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "own")
    (tmp_path / "open").mkdir(mode=0o755)
    for name in ("link", "open"):
        config, cache = configured(tmp_path / name, LAYERS, (HiddenStateCacheSpec(),))
        with pytest.raises(ValueError, match="folder of this user alone"):
            module.RelopeStates(config, None, cache)
    config, cache = configured(tmp_path / "own", LAYERS, (HiddenStateCacheSpec(),))
    module.RelopeStates(config, None, cache)
    monkeypatch.setattr(os, "getuid", lambda: (tmp_path / "own").stat().st_uid + 1)
    with pytest.raises(ValueError, match="folder of this user alone"):
        module.RelopeStates(config, None, cache)


def test_a_server_that_keeps_no_states_is_refused(module, tmp_path):
    config, cache = configured(tmp_path / "s", LAYERS, (object(), object()))
    with pytest.raises(ValueError, match="0 of 2 groups"):
        module.RelopeStates(config, None, cache)
    config, cache = configured("here", LAYERS, (HiddenStateCacheSpec(),))
    with pytest.raises(ValueError, match="path of a folder"):
        module.RelopeStates(config, None, cache)
    config, cache = configured(tmp_path / "s", LAYERS, (HiddenStateCacheSpec(),))
    with pytest.raises(ValueError, match="do not hold the blocks"):
        module.RelopeStates(config, None, cache).register_kv_caches({"states": PAGES[:, :1]})


def test_settings_of_requests_are_spread_over_their_draft_tokens():
    import importlib.util

    import torch

    spec = importlib.util.spec_from_file_location("relope_cpu", PLUGIN.parent / "relope_cpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    spread = module.expanded(torch.tensor([0.7, 0.0, 0.2]), torch.tensor([2, 3, 6], dtype=torch.int32), 6, 0, 1)
    assert spread.tolist() == pytest.approx([0.7, 0.7, 1.0, 0.2, 0.2, 0.2])
    generator = module.Generator().manual_seed(3)
    generator.set_offset(generator.get_offset() - 4)
    assert torch.rand(2, generator=generator).equal(torch.rand(2, generator=torch.Generator().manual_seed(3)))
