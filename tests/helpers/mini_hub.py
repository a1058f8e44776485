"""Miniature copies of the public data sets: the same columns, types and file layout, a few rows each."""

import io

import datasets
from datasets import ClassLabel, Image, List, Value
from PIL import Image as Pillow

TEXT, INTEGER = Value("string"), Value("int64")


def png(color, size=(24, 16)):
    """Return the bytes of a plain image."""
    buffer = io.BytesIO()
    Pillow.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def cell(color):
    """Return an image as Parquet files hold it."""
    return {"bytes": png(color), "path": None}


def write(folder, name, rows, features):
    """Write rows as one Parquet shard."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    columns = {column: [row.get(column) for row in rows] for column in features}
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    table.to_parquet(str(folder / f"{name}-00000-of-00001.parquet"))


def aokvqa(folder):
    """Two training questions on one image, and one without labels in test."""
    features = {
        "image": Image(),
        "question_id": TEXT,
        "question": TEXT,
        "choices": List(TEXT),
        "correct_choice_idx": Value("int8"),
        "direct_answers": TEXT,
        "difficult_direct_answer": Value("bool"),
        "rationales": List(TEXT),
    }
    row = {
        "question": "What is it?",
        "choices": ["cat", "dog", "cow", "fox"],
        "direct_answers": "['dog']",
        "difficult_direct_answer": False,
        "rationales": ["secret"],
    }
    train = [
        {**row, "question_id": f"t{n}", "image": cell(color), "correct_choice_idx": n % 4}
        for n, color in enumerate(("red", "red", "blue", "green", "white", "black"))
    ]
    write(folder, "data/train", train, features)
    held_out = [
        {**row, "question_id": f"v{n}", "image": cell(color), "correct_choice_idx": 1}
        for n, color in enumerate(("yellow", "red"))
    ]
    write(folder, "data/validation", held_out, features)


def scienceqa(folder):
    """The two configurations; the full one has a question without an image."""
    names = ("question", "hint", "task", "grade", "subject", "topic", "category", "skill", "lecture", "solution")
    features = {"image": Image(), "choices": List(TEXT), "answer": Value("int8"), **dict.fromkeys(names, TEXT)}
    row = dict.fromkeys(names, "") | {"lecture": "LECTURE", "solution": "SOLUTION", "subject": "geography"}
    seen = {**row, "image": cell("red"), "question": "Which?", "choices": ["x", "y", "z"], "answer": 1, "hint": "Look."}
    unseen = {**row, "image": None, "question": "How?", "choices": ["p", "q"], "answer": 0, "subject": "reading"}
    for split in ("train", "validation", "test"):
        write(folder, f"ScienceQA-IMG/{split}", [seen], features)
        write(folder, f"ScienceQA-FULL/{split}", [seen, unseen, {**unseen, "question": "Why?"}], features)


def chartqa(folder):
    """One chart asked about twice."""
    features = {
        "image": Image(),
        "query": TEXT,
        "label": List(TEXT),
        "human_or_machine": ClassLabel(names=["human", "machine"]),
    }
    rows = [
        {"image": cell("red"), "query": "How many?", "label": ["14"], "human_or_machine": 0},
        {"image": cell("red"), "query": "Which two?", "label": ["[Red, Blue]"], "human_or_machine": 1},
    ]
    for split in ("train", "val", "test"):
        write(folder, f"data/{split}", rows, features)


def mathvision(folder):
    """A question with options and one without; testmini repeats the first."""
    names = ("id", "question", "image", "answer", "subject", "solution")
    features = {**dict.fromkeys(names, TEXT), "options": List(TEXT), "decoded_image": Image(), "level": INTEGER}
    rows = [
        {
            "id": "1",
            "question": "How long?\n<image1>",
            "options": ["10", "12", "14", "16", "18"],
            "answer": "B",
            "image": "images/1.jpg",
            "decoded_image": cell("red"),
            "level": 2,
            "subject": "algebra",
        },
        {
            "id": "2",
            "question": "<image1> How big?",
            "options": [],
            "answer": r"\frac{1}{3}",
            "image": "images/2.jpg",
            "decoded_image": cell("blue"),
            "level": 5,
            "subject": "topology",
        },
    ]
    write(folder, "data/test", rows, features)
    write(folder, "data/testmini", rows[:1], features)


def mmmu(folder):
    """Tags in the question or in the options, repeated and out of order; an open question."""
    images = [f"image_{number}" for number in range(1, 8)]
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
    features = {**dict.fromkeys(names, TEXT), **dict.fromkeys(images, Image())}
    choice = {"question_type": "multiple-choice", "answer": "B", "options": "['$6', \"it's 7\", '8', '9']"}
    write(
        folder,
        "data/dev",
        [
            {**choice, "id": "dev_Accounting_1", "question": "<image 1> What does it cost?", "image_1": cell("red")},
            {
                **choice,
                "id": "dev_Art_2",
                "question": "Compare <image 3> with <image 1>, then <image 3> again.",
                "image_1": cell("blue"),
                "image_2": cell("white"),
                "image_3": cell("green"),
            },
        ],
        features,
    )
    write(
        folder,
        "data/validation",
        [
            {
                **choice,
                "id": "validation_Art_3",
                "question": "Which one is it?",
                "answer": "A",
                "options": "['<image 2>', '<image 1>', 'neither']",
                "image_1": cell("green"),
                "image_2": cell("black"),
            },
            {
                "id": "validation_Physics_4",
                "question": "What current flows in <image 1>?",
                "options": "[]",
                "question_type": "open",
                "answer": "['24/7', '3.429']",
                "image_1": cell("purple"),
            },
        ],
        features,
    )


MAKERS = {
    "HuggingFaceM4/A-OKVQA": aokvqa,
    "lmms-lab/ScienceQA": scienceqa,
    "HuggingFaceM4/ChartQA": chartqa,
    "MathLLMs/MathVision": mathvision,
    "lmms-lab/MMMU": mmmu,
}
REVISION = "0123456789abcdef"


def serve(monkeypatch, root, **changes):
    """Put a folder in the place of the hub; returns what was asked for.

    Args:
        monkeypatch: pytest's.
        root: an empty folder.
        changes: maker's name → another maker.
    """
    asked = []

    def snapshot_download(repository, *, repo_type="model", revision=None, allow_patterns=None, **rest):
        assert repo_type == "dataset" and revision in (None, REVISION)
        folder = root / repository.replace("/", "--") / REVISION
        if not folder.exists():
            maker = MAKERS[repository]
            changes.get(maker.__name__, maker)(folder)
        asked.append((repository, tuple(allow_patterns)))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked
