"""A16: an adapter beside merged weights is refused; an adapter's own folder is a model: merged, keyed by both."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
import transformers as tf
from checkpoints import make
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from relope import steps
from relope.cli import app
from relope.errors import InvalidInputError, NotFoundError, UnsupportedError
from relope.extract.model.backbone import open_backbone, open_skeleton
from relope.extract.model.generate import answer_batch, captures
from relope.spec import build
from relope.types import Sample

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
ASKED = [Sample("a", "d", "test", "Which bar is the tallest?", ("x",)), Sample("b", "d", "test", "Why?", ("x",))]


def adapt(base, folder, name="", **settings):
    """Train nothing, but write a LoRA with an effect into a folder, and return it with the model it makes."""
    factory = tf.AutoModelForMultimodalLM if name else tf.AutoModelForCausalLM
    torch.manual_seed(1)
    chosen = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **settings}
    lora = get_peft_model(factory.from_pretrained(base), LoraConfig(**chosen))
    for key, value in lora.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(value)
    lora.save_pretrained(folder)
    return lora.merge_and_unload()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A Llama, an adapter of it, and a checkpoint into which it is merged."""
    root = tmp_path_factory.mktemp("a16")
    base = make("llama", root / "base")
    whole = adapt(base, root / "adapter")
    shutil.copytree(base, root / "merged")
    whole.save_pretrained(root / "merged")
    for path in (root / "merged").glob("adapter_*"):
        path.unlink()
    return SimpleNamespace(root=root, base=base, adapter=root / "adapter", merged=root / "merged")


@pytest.fixture
def copied(made, tmp_path):
    """The same, to be spoilt."""
    shutil.copytree(made.root, tmp_path / "own")
    own = tmp_path / "own"
    mend(own / "adapter", base_model_name_or_path=str(own / "base"))
    return SimpleNamespace(root=own, base=own / "base", adapter=own / "adapter", merged=own / "merged")


def mend(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def states(backbone):
    answered = answer_batch(backbone, backbone.inputs(ASKED), (3, 4), 2, "float32")
    return [capture.hidden[4] for capture in captures(answered, (3, 4))]


def opened(folder):
    return open_backbone(str(folder), "cpu", "float32")


def test_a16_an_adapter_is_merged_into_its_base(made):
    backbone, whole, plain = opened(made.adapter), opened(made.merged), opened(made.base)
    for mine, other, base in zip(states(backbone), states(whole), states(plain), strict=True):
        assert abs(mine - other).max() < 1e-4 < abs(mine - base).max()
    assert not any("lora" in key for key, _ in backbone.model.named_parameters())
    assert backbone.recorded["base"] == {"source": str(made.base), "revision": ""}
    assert backbone.recorded["source"] == str(made.adapter) and not backbone.card.embedded


def test_a16_an_adapter_is_keyed_by_both(copied):
    before, base = opened(copied.adapter).identity, opened(copied.base).identity
    assert {key: before[key] for key in base} == base and before.keys() - base.keys() == {"adapter_files"}
    mend(copied.adapter, lora_alpha=64)
    louder = opened(copied.adapter).identity
    assert louder["adapter_files"] != before["adapter_files"] and louder["model_files"] == before["model_files"]
    mend(copied.adapter, lora_alpha=8)
    assert opened(copied.adapter).identity == before
    config = json.loads((copied.base / "generation_config.json").read_text())
    (copied.base / "generation_config.json").write_text(json.dumps({**config, "repetition_penalty": 1.5}))
    assert opened(copied.adapter).identity["model_files"] != before["model_files"]


def test_a16_where_the_base_lay_does_not_key(made, copied):
    """Two people with the same files and other folders make the same store."""
    assert opened(made.adapter).identity == opened(copied.adapter).identity


def test_a16_a_base_beside_the_adapter_is_found_from_it(copied, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    mend(copied.adapter, base_model_name_or_path="../base")
    assert opened(copied.adapter).recorded["base"]["source"] == str(copied.base)


def test_a16_a_base_and_an_adapter_on_the_hub(copied, monkeypatch):
    asked = []

    def snapshot(source, revision=None, **how):
        asked.append((source, revision))
        return str({"owner/lora": copied.adapter, "owner/base": copied.base}[source])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    mend(copied.adapter, base_model_name_or_path="owner/base", revision="v2")
    backbone = open_backbone("owner/lora", "cpu")
    assert asked == [("owner/lora", None), ("owner/base", "v2")]
    assert backbone.recorded["base"] == {"source": "owner/base", "revision": "base"}
    assert backbone.recorded["revision"] == "adapter" and backbone.identity["adapter_files"]


def test_a16_a_named_base_brings_its_card(copied, monkeypatch):
    """Layer and pixel budget of a model that has a name hold for its adapters too."""
    folder = make("qwen2.5-vl", copied.root / "qwen")
    adapt(folder, copied.root / "lora", "qwen2.5-vl", target_modules=r".*layers\.\d+\.self_attn\.q_proj")
    mend(copied.root / "lora", base_model_name_or_path="Qwen/Qwen2.5-VL-7B-Instruct")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda source, **how: str(folder))
    backbone = opened(copied.root / "lora")
    assert backbone.default_layer == 16 and backbone.identity["pixels"] == [256 * 784, 1280 * 784]


@pytest.mark.parametrize("alpha", [8, 64])
def test_a16_adapter_files_beside_merged_weights_are_refused(copied, alpha):
    mend(copied.adapter, lora_alpha=alpha)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(copied.adapter / file, copied.merged / file)
        with pytest.raises(UnsupportedError, match=r"side by side: whether .* cannot be told") as error:
            opened(copied.merged)
        assert "merged" in error.value.hint
    (copied.merged / "adapter_config.json").unlink()
    with pytest.raises(UnsupportedError, match="side by side"):
        opened(copied.merged)
    shutil.copy(copied.adapter / "adapter_config.json", copied.merged)
    with pytest.raises(UnsupportedError, match="side by side"):
        open_skeleton(str(copied.merged), "cpu")


def test_a16_a_base_with_an_adapter_in_it_is_refused(copied):
    shutil.copy(copied.adapter / "adapter_config.json", copied.base)
    with pytest.raises(UnsupportedError, match="side by side"):
        opened(copied.adapter)


def test_a16_an_adapter_of_an_adapter_is_refused(copied):
    shutil.copytree(copied.adapter, copied.root / "second")
    mend(copied.root / "second", base_model_name_or_path=str(copied.adapter))
    with pytest.raises(UnsupportedError, match="is an adapter itself"):
        opened(copied.root / "second")


@pytest.mark.parametrize(
    ("named", "kind", "says"),
    [
        (None, UnsupportedError, "does not name its base"),
        ("", UnsupportedError, "does not name its base"),
        (7, UnsupportedError, "does not name its base"),
        ("/nowhere/base", NotFoundError, "was trained on '/nowhere/base', which is not here"),
    ],
)
def test_a16_a_base_that_is_not_there(copied, named, kind, says):
    mend(copied.adapter, base_model_name_or_path=named)
    with pytest.raises(kind, match=says) as error:
        opened(copied.adapter)
    assert "base_model_name_or_path" in error.value.hint


def test_a16_adapters_that_do_not_fit_are_refused(copied):
    held = load_file(copied.adapter / "adapter_model.safetensors")
    first = min(held)
    wrong = {
        r"lacks 1 weights": {key: value for key, value in held.items() if key != first},
        r"holds, without a place for them, 1 weights": {
            **held,
            first.replace("layers.0", "layers.77"): held[first].clone(),
        },
        r"does not fit": {**held, first: held[first][:, :-1].clone()},
    }
    for says, weights in wrong.items():
        save_file(weights, copied.adapter / "adapter_model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UnsupportedError, match=says):
            opened(copied.adapter)


@pytest.mark.parametrize("change", [{"r": 10**9}, {"target_modules": ["nothing"]}, {"r": -1}, {"rank_pattern": 7}])
def test_a16_settings_that_the_files_do_not_bear_out(copied, change):
    """Refused, and before memory is taken for them."""
    mend(copied.adapter, **change)
    with pytest.raises(UnsupportedError, match="does not fit its model"):
        opened(copied.adapter)


def test_a16_weights_without_a_configuration_beside_an_adapter_are_no_model(copied):
    """As an exported router has its head in a file beside its adapter."""
    before = opened(copied.adapter).identity
    save_file({"head": torch.zeros(3)}, copied.adapter / "head.safetensors")
    assert opened(copied.adapter).identity == before


@pytest.mark.parametrize("text", ["{", "[]", "null", '"x"'])
def test_a16_a_damaged_adapter_config(copied, text):
    (copied.adapter / "adapter_config.json").write_text(text)
    with pytest.raises(UnsupportedError, match=r"adapter_config\.json"):
        opened(copied.adapter)


def test_a16_an_adapter_without_safetensors(copied):
    torch.save(load_file(copied.adapter / "adapter_model.safetensors"), copied.adapter / "adapter_model.bin")
    (copied.adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(NotFoundError, match=r"lacks adapter_model\.safetensors"):
        opened(copied.adapter)


def test_a16_adapters_that_leave_weights_alone_are_refused(copied):
    model = tf.AutoModelForCausalLM.from_pretrained(copied.base)
    tuned = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    tuned.save_pretrained(copied.root / "prompts")
    with pytest.raises(UnsupportedError, match="of the kind PROMPT_TUNING, which cannot be merged"):
        opened(copied.root / "prompts")
    mend(copied.adapter, alora_invocation_tokens=[1, 2])
    with pytest.raises(UnsupportedError, match="cannot be merged"):
        opened(copied.adapter)
    mend(copied.adapter, alora_invocation_tokens=None, peft_type="NO_SUCH")
    with pytest.raises(UnsupportedError, match="of the kind NO_SUCH"):
        opened(copied.adapter)


def test_a16_quantized_weights_take_no_adapter(copied):
    with pytest.raises(InvalidInputError, match="adapter merged, which weights in 4bit do not allow"):
        open_backbone(str(copied.adapter), "cpu", quantize="4bit")


def test_a16_an_adapter_brings_its_own_tokenizer(copied):
    """What was trained with it goes before its base's, file group by file group."""
    before = opened(copied.adapter)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(copied.base / name, copied.adapter / name)
    same = opened(copied.adapter)
    assert same.identity == before.identity
    template = (copied.base / "chat_template.jinja").read_text()
    (copied.adapter / "chat_template.jinja").write_text("BEGIN " + template)
    own = opened(copied.adapter)
    assert own.tokenizer.decode(own.inputs(ASKED[:1])["input_ids"][0]).startswith("BEGIN ")
    assert own.identity["processor_files"] != before.identity["processor_files"]


def test_a16_relope_is_fitted_on_an_adapted_backbone(copied, tmp_path):
    """The store keeps block l as it is with the LoRA merged; the model is opened again for a streamed fit."""
    out = tmp_path / "x.zarr"
    rows = [{"question": f"Which bar is {n}?", "answer": "xy"[n % 2], "split": "train"} for n in range(24)]
    judge = tmp_path / "judge.py"
    judge.write_text("def turns(response, answers, choices):\n    return answers[0] == 'x'\n")
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = {"dataset": str(tmp_path / "own.jsonl"), "layers": "3,4", "max_new_tokens": 1, "device": "cpu"}
    asked["grader"] = f"{judge}:turns"  # every other answer is right, so that there is something to learn
    steps.run(build("extract", {"model": str(copied.adapter), "out": out, **asked}))
    block = load_file(out / "block_4" / "block.safetensors")
    assert torch.equal(block["self_attn.q_proj.weight"], opened(copied.adapter).blocks[3].self_attn.q_proj.weight)
    settings = {"epochs": 1, "lora_rank": 2}
    for mode in ("cached", "full"):
        spec = {"method": "relope", "store": str(out), "device": "cpu", "out": tmp_path / mode}
        assert steps.run(build("fit", {**spec, "set": {**settings, "mode": mode}})).path.exists()
    result = CliRunner().invoke(app, ["store", "verify", str(out), "--against-model", "3"])
    assert result.exit_code == 0, result.output
    mend(copied.adapter, lora_alpha=64)
    result = CliRunner().invoke(app, ["store", "verify", str(out), "--against-model", "3"])
    assert result.exit_code == 2 and "adapter_files differ" in result.output.replace("\n", " ")
    shutil.rmtree(out / "block_4")
    with pytest.raises(InvalidInputError, match="no longer the checkpoint"):
        steps.run(build("fit", {**spec, "out": tmp_path / "again", "set": {**settings, "mode": "cached"}}))


def test_a16_remote_code_is_never_asked_for(made, tmp_path, monkeypatch):
    """Whatever is opened, trust_remote_code is False in so many words: None would ask at the terminal."""
    told = []
    for factory in (tf.AutoConfig, tf.AutoTokenizer, tf.AutoModelForCausalLM):
        real = factory.from_pretrained

        def spy(*args, real=real, factory=factory, **how):
            told.append((factory.__name__, how.get("trust_remote_code")))
            return real(*args, **how)

        monkeypatch.setattr(factory, "from_pretrained", spy)
    opened(made.base)
    assert {name for name, _ in told} == {"AutoConfig", "AutoTokenizer", "AutoModelForCausalLM"}
    assert {value for _, value in told} == {False}, told


def test_a16_a_class_that_is_code_is_refused(tmp_path):
    folder = tmp_path / "remote"
    folder.mkdir()
    config = {"model_type": "mystery", "architectures": ["Mystery"], "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    for opener in (open_backbone, open_skeleton):
        with pytest.raises(
            UnsupportedError, match=r"'mystery' is code beside the checkpoint \(auto_map in config\.json\)"
        ):
            opener(str(folder), "cpu")
    assert not (tmp_path / "ran").exists()


def test_a16_a_known_class_is_opened_by_transformers_own_code(copied):
    config = json.loads((copied.base / "config.json").read_text())
    (copied.base / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    assert type(opened(copied.base).model).__module__.startswith("transformers.")


def test_a16_a_class_that_generates_no_text_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "architectures": ["ViTModel"]}))
    with pytest.raises(UnsupportedError, match="generates no text"):
        opened(tmp_path)
