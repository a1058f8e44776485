"""The public data sets through the real loading code, over miniature files with their columns."""

import hashlib
import io
import sys

import datasets
import numpy as np
import pytest
from mini_hub import REVISION, TEXT, png, serve, write
from PIL import Image

from relope import steps
from relope.errors import InvalidInputError, NotFoundError
from relope.extract.data.dataset import check_splits, load_samples
from relope.extract.data.flaws import find_flaws
from relope.extract.data.groups import FOLDS
from relope.extract.data.open import open_dataset
from relope.extract.data.turns import prompt_text
from relope.spec import ExtractSpec
from relope.store import ActivationStore
from relope.store.grades import apart, rows_of

NAMES = ("aokvqa", "scienceqa", "scienceqa-text", "scienceqa-full", "chartqa", "mathvision", "mmmu")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The miniature hub; a list of what was asked of it."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return serve(monkeypatch, tmp_path / "hub")


def every(name):
    """Return all samples of a data set."""
    dataset = open_dataset(name)
    return dataset, load_samples(dataset, dataset.splits, None)


@pytest.mark.parametrize("name", NAMES)
def test_contract(hub, name):
    dataset, samples = every(name)
    assert dataset.identity["revision"] == REVISION and "/" in dataset.identity["repository"]
    assert find_flaws(samples, text_only=False)[0] == []
    assert {sample.split for sample in samples} <= set(dataset.splits)
    assert all(sample.dataset == name and sample.answers for sample in samples)
    for sample in samples:
        for image in sample.images:
            assert image.open().mode == "RGB" and image.open().size == (24, 16)
    for split in dataset.splits:
        assert [s.id for s in dataset.load(split, 1)] == [s.id for s in samples if s.split == split][:1]


def test_aokvqa(hub):
    dataset, samples = every("aokvqa")
    assert dataset.splits == ("train", "test") and check_splits(dataset, ("validation",)) == ("test",)
    by_id = {sample.id: sample for sample in samples}
    assert by_id["t1"].answers == ("B",) and by_id["v0"].split == "test"
    assert by_id["t0"].images[0].digest == by_id["t1"].images[0].digest == hashlib.sha256(png("red")).hexdigest()
    assert prompt_text(by_id["t1"], False) == (
        "Question: What is it?\nOptions:\nA. cat\nB. dog\nC. cow\nD. fox\n"
        "Please select the correct answer from the options above. \n"
    )


def test_only_the_files_of_the_asked_split_are_fetched(hub):
    open_dataset("aokvqa").load("train", 1)
    assert {pattern for _, patterns in hub for pattern in patterns} == {"README.md", "data/train-*.parquet"}


def test_a_limit_decodes_nothing_and_reads_no_more_rows(hub, monkeypatch):
    opened, real = [], Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **rest: opened.append(1) or real(*args, **rest))
    (sample,) = open_dataset("aokvqa").load("train", 1)
    assert not opened
    sample.images[0].open()
    assert len(opened) == 1


def test_scienceqa_shows_the_hint_and_neither_lecture_nor_solution(hub):
    _, samples = every("scienceqa")
    text = prompt_text(samples[0], False)
    assert text.startswith("Hint: Look.\nQuestion: Which?\nOptions:\nA. x\nB. y\nC. z\n")
    assert "LECTURE" not in text and "SOLUTION" not in text
    assert samples[0].answers == ("B",) and [len(s.images) for s in samples] == [1, 1, 1]


def test_scienceqa_subsets(hub):
    _, text = every("scienceqa-text")
    _, full = every("scienceqa-full")
    assert [s.id for s in text if s.split == "test"] == ["test-1", "test-2"]
    assert not any(sample.images for sample in text)
    assert [s.id for s in full if s.split == "test"] == ["test-0", "test-1", "test-2"]
    assert prompt_text(text[0], False).startswith("Question: How?")


def test_chartqa(hub):
    dataset, samples = every("chartqa")
    assert dataset.splits == ("train", "validation", "test") and check_splits(dataset, ("val",)) == ("validation",)
    one, two = samples[:2]
    assert prompt_text(one, False) == "How many?\nAnswer the question using a single word or phrase."
    assert (one.answers, two.answers) == (("14",), ("[Red, Blue]",))
    assert (one.meta["kind"], two.meta["kind"]) == ("human", "machine")


def test_mathvision(hub):
    dataset, samples = every("mathvision")
    with_options, without = sorted(samples, key=lambda sample: sample.id)
    assert dataset.max_new_tokens == 2048 and dataset.splits == FOLDS and len(samples) == 2
    assert with_options.answers == ("B",) and without.answers == (r"\frac{1}{3}",)
    text = prompt_text(with_options, False)
    assert "Question: How long?\nOptions:\nA. 10\n" in text and r"\boxed{}" in text and "<image" not in text
    assert prompt_text(without, False).startswith("How big?\n")


def test_mmmu_rows_that_make_no_sense_are_flaws(monkeypatch, tmp_path):
    import mini_hub

    def odd(folder):
        mini_hub.mmmu(folder)
        names = (
            "id",
            "question",
            "options",
            "explanation",
            "img_type",
            "answer",
            "topic_difficulty",
            "question_type",
            "subfield",
        )
        features = {**dict.fromkeys(names, TEXT), **{f"image_{n}": datasets.Image() for n in range(1, 8)}}
        row = {
            "question": "What is in <image 1>?",
            "options": "['a', 'b']",
            "question_type": "multiple-choice",
            "answer": "B",
            "image_1": mini_hub.cell("red"),
        }
        changes = {
            "ok": {},
            "listless": {"options": "a or b"},
            "nothing": {"options": None},
            "none": {"options": "[]"},
            "withheld": {"answer": "?"},
            "unseen": {"image_1": None},
            "ninth": {"question": "Is <image 9> it?"},
            "mute": {"answer": None, "question_type": "open"},
            "empty": {"question": None},
        }
        write(folder, "data/dev", [{**row, "id": name, **change} for name, change in changes.items()], features)

    serve(monkeypatch, tmp_path, mmmu=odd)
    _, samples = every("mmmu")
    reasons = {flaw.id: flaw.reason for flaw in find_flaws(samples, text_only=False)[0]}
    assert "no list: 'a or b'" in reasons.pop("listless") and "no list: '[]'" in reasons.pop("none")
    assert "'?' is none of the choices" in reasons.pop("withheld") and "no list: ''" in reasons.pop("nothing")
    assert "mentions <image 1>, which it does not have" in reasons.pop("unseen")
    assert "mentions <image 9>" in reasons.pop("ninth") and "no answer" in reasons.pop("mute")
    assert reasons == {"empty": "the question is empty"}


def test_rows_without_labels_or_options_are_flaws(monkeypatch, tmp_path):
    import mini_hub

    def unlabelled(folder):
        mini_hub.aokvqa(folder)
        features = {
            "image": datasets.Image(),
            "question_id": TEXT,
            "question": TEXT,
            "choices": datasets.List(TEXT),
            "correct_choice_idx": datasets.Value("int8"),
        }
        row = {"question": "What?", "choices": ["a", "b"], "correct_choice_idx": 1}
        rows = [
            {**row, "question_id": "ok"},
            {**row, "question_id": "no label", "correct_choice_idx": None},
            {**row, "question_id": "no options", "choices": None},
        ]
        write(folder, "data/train", rows, features)

    def bare(folder):
        features = {"image": datasets.Image(), "query": TEXT, "label": datasets.List(TEXT)}
        rows = [{"query": "How many?", "label": label} for label in (["1"], [], None, [None])]
        write(folder, "data/train", rows, features)

    serve(monkeypatch, tmp_path, aokvqa=unlabelled, chartqa=bare)
    flaws = {
        name: {flaw.id: flaw.reason for flaw in find_flaws(open_dataset(name).load("train", None), False)[0]}
        for name in ("aokvqa", "chartqa")
    }
    assert flaws["aokvqa"].keys() == {"no label", "no options"} and flaws["chartqa"].keys() == {
        f"train-{n}" for n in (1, 2, 3)
    }


def test_testmini_of_mathvision_is_apart_only_where_it_is_asked_for(hub, tmp_path):
    dataset = open_dataset("mathvision")
    assert "testmini" not in dataset.splits and check_splits(dataset, ("testmini",)) == ("testmini",)
    (mini,) = dataset.load("testmini", None)
    own = {sample.id: sample for split in dataset.splits for sample in dataset.load(split, None)}["1"]
    assert (mini.id, mini.split, mini.group, mini.answers) == ("testmini-1", "testmini", own.group, own.answers)
    out = tmp_path / "m.zarr"
    steps.run(
        ExtractSpec(
            model="tiny-vl",
            dataset="mathvision",
            split=("train", "test", "testmini"),
            out=out,
            device="cpu",
            max_new_tokens=0,
        )
    )
    with ActivationStore.open(out) as store:
        rows = np.flatnonzero(store.samples["split"] != "testmini")
        assert sorted(store.samples[rows]["id"]) == ["1", "2"]
        assert store.samples[rows[apart(store, rows)]]["id"].to_list() == ["2"], "a fit leaves out what testmini asks"


def test_mmmu_images_go_by_tag(hub):
    _, samples = every("mmmu")
    by_id = {sample.id: sample for sample in samples}

    def colors(name):
        return [hashlib.sha256(png(color)).hexdigest() for color in name]

    def shown(name):
        return [image.digest for image in by_id[name].images]

    assert shown("dev_Accounting_1") == colors(["red"])
    assert shown("dev_Art_2") == colors(["green", "blue"])
    assert by_id["dev_Art_2"].question == "Compare <image 1> with <image 2>, then <image 1> again."
    assert shown("validation_Art_3") == colors(["black", "green"])
    assert by_id["validation_Art_3"].choices == ("<image 1>", "<image 2>", "neither")
    assert by_id["dev_Accounting_1"].choices == ("$6", "it's 7", "8", "9")
    assert by_id["validation_Physics_4"].answers == ("24/7", "3.429")
    assert by_id["validation_Physics_4"].choices == () and by_id["dev_Art_2"].meta["kind"] == "Art"


def test_folds_keep_shared_images_together_and_do_not_depend_on_a_limit(hub):
    dataset, samples = every("mmmu")
    by_id = {sample.id: sample for sample in samples}
    assert by_id["dev_Art_2"].group == by_id["validation_Art_3"].group  # both show the green image
    assert by_id["dev_Art_2"].split == by_id["validation_Art_3"].split
    assert by_id["dev_Art_2"].group != by_id["dev_Accounting_1"].group
    for split in dataset.splits:
        assert [s.id for s in dataset.load(split, 1)] == [s.id for s in samples if s.split == split][:1]
    assert check_splits(dataset, ("test", "train")) == FOLDS


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ({"image": TEXT, "query": TEXT}, "column 'label' is missing in train of HuggingFaceM4/ChartQA"),
        ({"image": TEXT, "query": TEXT, "label": TEXT}, "column 'image' .* holds .*, not image"),
    ],
)
def test_another_layout_is_named(monkeypatch, tmp_path, features, says):
    def chartqa(folder):
        write(folder, "data/train", [dict.fromkeys(features, "x")], features)

    serve(monkeypatch, tmp_path, chartqa=chartqa)
    with pytest.raises(InvalidInputError, match=says):
        open_dataset("chartqa").load("train", None)


def test_a_data_set_that_cannot_be_had(monkeypatch, tmp_path):
    def refuse(*args, **rest):
        raise OSError("401 Client Error: Access to dataset is restricted.\nlong explanation")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(NotFoundError, match=r"cannot fetch data set lmms-lab/MMMU: 401") as error:
        open_dataset("mmmu")
    assert len(error.value.lines.splitlines()) == 2
    serve(monkeypatch, tmp_path, aokvqa=lambda folder: folder.mkdir(parents=True))
    with pytest.raises(NotFoundError, match="has no files data/train"):
        open_dataset("aokvqa").load("train", None)


def test_an_offline_hub_is_said_in_two_lines(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(NotFoundError, match="cannot fetch data set HuggingFaceM4/ChartQA") as error:
        open_dataset("chartqa")
    assert len(error.value.lines.splitlines()) == 2


def test_labels_that_make_no_sense_are_flaws(monkeypatch, tmp_path):
    from mini_hub import aokvqa

    def broken(folder):
        aokvqa(folder)
        (path,) = folder.glob("data/train-*.parquet")
        table = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "c"))
        table = table.map(lambda row, n: {**row, "correct_choice_idx": 7 if n == 2 else 0}, with_indices=True)
        table.to_parquet(str(path))

    serve(monkeypatch, tmp_path, aokvqa=broken)
    flaws, _ = find_flaws(open_dataset("aokvqa").load("train", None), text_only=False)
    assert [flaw.id for flaw in flaws] == ["t2"] and "none of the choices" in flaws[0].reason


def test_extraction_leaves_out_images_of_the_test_split(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = steps.run(ExtractSpec(model="tiny-vl", dataset="aokvqa", device="cpu", max_new_tokens=2))
    assert str(outcome.path) == "runs/aokvqa.zarr" and outcome.facts["computed"] == 8
    with ActivationStore.open(outcome.path) as store:
        rows = rows_of(store, ("train",))
        kept = store.samples[rows[apart(store, rows)]]["id"].sort().to_list()
    assert len(rows) == 6 and kept == ["t2", "t3", "t4", "t5"]  # t0 and t1 show an image of the test split


def test_loading_is_lazy():
    import subprocess

    code = (
        "import sys; import relope.extract.datasets.mmmu, relope.extract.datasets.aokvqa; "
        "print([m for m in ('torch', 'datasets', 'transformers', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unlabelled_image_is_white_where_it_is_see_through():
    from relope.extract.data.images import decode

    buffer = io.BytesIO()
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(buffer, "PNG")
    assert decode(buffer.getvalue()).getpixel((0, 0)) == (255, 255, 255)
