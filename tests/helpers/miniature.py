"""The paper's backbones and data sets in miniature: real classes, columns and file layouts; nothing is downloaded."""

import io
import random
from dataclasses import replace
from pathlib import Path

import transformers as tf
from checkpoints import make
from datasets import ClassLabel, Image, List
from mini_hub import INTEGER, REVISION, TEXT, write
from PIL import Image as Pillow

from relope.extract.backbones import gemma3_12b, phi4_multimodal, qwen2_5_vl_7b
from relope.extract.datasets import aokvqa, chartqa, mathvision, mmmu, scienceqa, scienceqa_text

BACKBONES = {"qwen2.5-vl": qwen2_5_vl_7b, "gemma3": gemma3_12b, "phi4-multimodal": phi4_multimodal}
DATASETS = (aokvqa, chartqa, mathvision, mmmu, scienceqa, scienceqa_text)
LETTERS = "ABCD"


def checkpoint(name, folder, **more):
    """Write a checkpoint that nearly always answers with one of four letters."""
    make(name, folder, **more)
    factory = tf.AutoModelForMultimodalLM
    model, tokenizer = factory.from_pretrained(folder), tf.AutoTokenizer.from_pretrained(folder)
    head = model.get_output_embeddings().weight
    head.data[[tokenizer.convert_tokens_to_ids(letter) for letter in LETTERS]] *= 20
    model.save_pretrained(folder)
    return folder


def cell(draw):
    """Return an image of four random colours, as Parquet files hold it."""
    image = Pillow.new("RGB", (2, 2))
    image.putdata([tuple(draw.choices(range(256), k=3)) for _ in range(4)])
    buffer = io.BytesIO()
    image.resize((32, 32), Pillow.Resampling.NEAREST).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def rows(split, n, image="image"):
    """Return questions with an option that is right, each on an image of its own."""
    draw = random.Random(f"{split} {n} {image}")
    words = ["circle", "square", "bar", "clock", "digit", "house", "river", "number"]
    return [
        {
            image: cell(draw),
            "question": f"Which {draw.choice(words)} is {draw.choice(words)} {number}?",
            "id": number,
            "options": draw.sample(words, 4),
            "right": draw.randrange(4),
        }
        for number in range(n)
    ]


def write_aokvqa(folder, n):
    features = {
        "image": Image(),
        "question_id": TEXT,
        "question": TEXT,
        "choices": List(TEXT),
        "correct_choice_idx": INTEGER,
    }
    for split in ("train", "validation"):
        questions = [
            {**row, "question_id": f"{split}{row['id']}", "choices": row["options"], "correct_choice_idx": row["right"]}
            for row in rows(split, n)
        ]
        write(folder, f"data/{split}", questions, features)


def write_scienceqa(folder, n):
    features = {
        "image": Image(),
        "question": TEXT,
        "choices": List(TEXT),
        "answer": INTEGER,
        "hint": TEXT,
        "subject": TEXT,
    }
    for split in ("train", "validation", "test"):
        seen = [
            {**row, "choices": row["options"], "answer": row["right"], "hint": "", "subject": "geography"}
            for row in rows(split, n)
        ]
        unseen = [{**row, "image": None, "question": f"Without: {row['question']}"} for row in seen]
        write(folder, f"ScienceQA-IMG/{split}", seen, features)
        write(folder, f"ScienceQA-FULL/{split}", seen + unseen, features)


def write_chartqa(folder, n):
    features = {
        "image": Image(),
        "query": TEXT,
        "label": List(TEXT),
        "human_or_machine": ClassLabel(names=["human", "machine"]),
    }
    for split in ("train", "val", "test"):
        questions = [
            {**row, "query": row["question"], "label": [LETTERS[row["right"]]], "human_or_machine": 0}
            for row in rows(split, n)
        ]
        write(folder, f"data/{split}", questions, features)


def write_mathvision(folder, n):
    features = {
        **dict.fromkeys(("id", "question", "answer", "subject"), TEXT),
        "options": List(TEXT),
        "decoded_image": Image(),
    }
    questions = [
        {
            **row,
            "id": str(row["id"]),
            "question": f"{row['question']}\n<image1>",
            "answer": LETTERS[row["right"]],
            "subject": "algebra",
        }
        for row in rows("test", n, "decoded_image")
    ]
    write(folder, "data/test", questions, features)


def write_mmmu(folder, n):
    images = dict.fromkeys([f"image_{number}" for number in range(1, 8)], Image())
    features = {**dict.fromkeys(("id", "question", "options", "answer", "question_type"), TEXT), **images}
    for split, share in (("dev", n // 4), ("validation", n - n // 4)):
        questions = [
            {
                **row,
                "id": f"{split}_Art_{row['id']}",
                "question": f"<image 1> {row['question']}",
                "options": str(row["options"]),
                "answer": LETTERS[row["right"]],
                "question_type": "multiple-choice",
            }
            for row in rows(split, share, "image_1")
        ]
        write(folder, f"data/{split}", questions, features)


WRITERS = {
    "HuggingFaceM4/A-OKVQA": write_aokvqa,
    "lmms-lab/ScienceQA": write_scienceqa,
    "HuggingFaceM4/ChartQA": write_chartqa,
    "MathLLMs/MathVision": write_mathvision,
    "lmms-lab/MMMU": write_mmmu,
}


def serve(setattr_, root, n=40, shallow=True):
    """Put miniatures in the place of the hub's models and data sets.

    Args:
        setattr_: pytest's ``monkeypatch.setattr``, or something like it.
        root: a folder that keeps them.
        n: questions of a split.
        shallow: 4 blocks, read at 2, and not as many as the real models have.
    """
    for module in BACKBONES.values():
        depth = {"n_blocks": 4, "layer": 2} if shallow else {}
        setattr_(module, "CARD", replace(module.CARD, pixels=(), adapter="", **depth))
    for module in DATASETS:  # the first letter is the answer
        setattr_(module, "DATASET", replace(module.DATASET, max_new_tokens=1))
    names = {module.CARD.source: name for name, module in BACKBONES.items()}

    def snapshot_download(repository, *, repo_type="model", **rest):
        folder = Path(root) / repository.replace("/", "--") / REVISION
        if repository in WRITERS and not folder.exists():
            WRITERS[repository](folder, n)
        if repository in names and not folder.exists():
            blocks = BACKBONES[names[repository]].CARD.n_blocks
            checkpoint(names[repository], folder, blocks=blocks)
        return str(folder)

    setattr_("huggingface_hub.snapshot_download", snapshot_download)
