"""Our plug-in's mends beside fakes of vLLM's objects: images that are read whole, and in both directions on a CPU."""

import dataclasses
import importlib.util
from importlib.metadata import distributions
from types import SimpleNamespace

import pytest
import torch

from relope.vllm.command import OURS, PLUGIN


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, PLUGIN / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_python_finds_the_entry_point_where_the_folder_is_on_its_path():
    (made,) = distributions(path=[str(PLUGIN)])
    (entry,) = made.entry_points.select(group="vllm.general_plugins")
    module, _, name = entry.value.partition(":")
    assert callable(getattr(loaded(module), name)) and loaded(module).CLASSES == OURS
    assert all(f"class {each}(" in (PLUGIN / "relope_models.py").read_text() for each in OURS)


@pytest.mark.parametrize(
    ("first", "end", "images", "expected"),
    [
        (0, 9, [], [(9, True)]),
        (0, 9, [(2, 4)], [(2, True), (5, False), (9, True)]),
        (0, 9, [(6, 8), (0, 2)], [(3, False), (6, True), (9, False)]),
        (3, 9, [(2, 4), (9, 11)], [(5, False), (9, True)]),  # its beginning was cached; one of a later step
        (5, 6, [(2, 4)], [(6, True)]),  # a token of the answer
        (5, 5, [(2, 4)], []),
    ],
)
def test_a_step_is_split_at_its_images(first, end, images, expected):
    assert list(loaded("relope_cpu").pieces(first, end, images)) == expected


@dataclasses.dataclass
class Common:
    """What vLLM tells attention of a step."""

    query_start_loc_cpu: torch.Tensor
    seq_lens: torch.Tensor
    block_table_tensor: torch.Tensor
    mm_req_doc_ranges: dict | None
    query_start_loc: torch.Tensor | None = None
    num_reqs: int = 0
    causal: bool | torch.Tensor = True

    def replace(self, **changes):
        return dataclasses.replace(self, **changes)


def mask(common):
    """Which position each token of a step reads up to, request for request."""
    starts, causal = common.query_start_loc_cpu.tolist(), common.causal
    reads = []
    for row, end in enumerate(common.seq_lens.tolist()):
        n = starts[row + 1] - starts[row]
        alone = causal if isinstance(causal, bool) else bool(causal[row])
        page = common.block_table_tensor[row].tolist()
        reads += [(page, end - n + 1 + i if alone else end) for i in range(n)]
    return reads


def test_tokens_of_an_image_read_it_whole_and_all_others_what_is_before_them():
    pages = torch.tensor([[1], [2], [3]], dtype=torch.int32)
    common = Common(torch.tensor([0, 1, 7, 11]), torch.tensor([20, 6, 30]), pages, {0: [(3, 5)], 1: [(2, 4)], 2: []})
    seen = loaded("relope_cpu").seeing_images(lambda self, prefix, told, fast: told)
    made = seen(None, 0, common)
    image = [([2], end) for end in (1, 2, 5, 5, 5, 6)]
    assert mask(made) == [([1], 20), *image, *[([3], end) for end in (27, 28, 29, 30)]]
    assert made.num_reqs == 5 and made.causal.dtype == torch.int32  # as the kernel wants it
    assert torch.equal(made.query_start_loc, made.query_start_loc_cpu)
    for none in (None, {}, {0: [], 1: []}):
        text = dataclasses.replace(common, mm_req_doc_ranges=none)
        assert seen(None, 0, text) is text


@pytest.mark.parametrize(
    ("computed", "new", "reads", "kept"),
    [
        (0, 10, True, 10),  # up to the image
        (10, 8, True, 8),  # all of it
        (10, 5, True, 0),  # a step that begins with it
        (14, 2, True, 0),  # within it, behind a cached page
        (14, 4, True, 4),
        (10, 2, True, 2),  # what is around an image, but not of it
        (14, 3, True, 3),
        (18, 1, True, 1),
        (10, 5, False, 5),  # a model whose images are read as text
    ],
)
def test_no_step_ends_within_an_image(computed, new, reads, kept):
    def schedule(self, request, computed, new, budget, shift_computed_tokens=0):
        return [0], new, budget - 8, [], []

    config = SimpleNamespace(model_config=SimpleNamespace(is_mm_prefix_lm=reads))
    image = SimpleNamespace(offset=10, length=8, extract_embeds_range=lambda: [(12, 16)])
    request = SimpleNamespace(mm_features=[SimpleNamespace(mm_position=image)])
    made = loaded("relope_plugin").uncut(schedule)(
        SimpleNamespace(vllm_config=config), request, computed, new, 64, shift_computed_tokens=0
    )
    assert made == (([0], kept, 56, [], []) if kept else ([], 0, 64, [], []))
