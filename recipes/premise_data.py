"""Write the second testbed's questions as a data set: ``python recipes/premise_data.py --model CHECKPOINT``.

What comes out is a folder that ``relope extract --dataset`` reads: ``questions.jsonl`` and a picture for each
question. The shift is the one that the checkpoint's own record sets.
"""

import argparse
import json
import sys
from pathlib import Path

from PIL import Image
from premise_ask import Asked, questions
from premise_model import PAD, UNKNOWN, WORD
from premise_paint import pictures
from premise_rows import BEGIN, TURN
from premise_scenes import KINDS

ORDERS = ("image-first", "image-last")
SMUDGE = "smudge"
"""What a description says where a word cannot be read: no word that the model knows."""


def write(folder: Path, checkpoint: Path, order: str, sizes: dict[str, int]) -> Path:
    """Write the first questions of some splits.

    Args:
        folder: where they go.
        checkpoint: folder of the model, whose record says how strong the shift is.
        order: whether the image comes before the question or after it.
        sizes: split → number of questions.

    Returns:
        The file of questions.
    """
    found = json.loads((checkpoint / "training.json").read_text())["accuracy"]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "questions.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for split, n in sizes.items():
            asked = questions(split, n, found["strength"], found["smudge"])
            shown = pictures(asked.scenes, asked.look, "cpu").numpy()
            for row, (text, answer) in enumerate(zip(asked.text, asked.said, strict=True)):
                name = f"{split}-{row}.png"
                Image.fromarray(shown[row]).save(folder / name)
                question = f"{text} <image 1>" if order == "image-last" else text
                told = {"question": question, "answer": answer, "caption": caption_of(asked, row)}
                about = {"id": f"{split}-{row}", "image": name, "split": split, "kind": KINDS[asked.kind[row]]}
                lines.write(json.dumps({**about, **told}) + "\n")
    return file


def caption_of(asked: Asked, row: int) -> str:
    """Return the description that stands in for a question's image, in words."""
    word_of = {number: word for word, number in WORD.items()} | {UNKNOWN: SMUDGE}
    ids = [token for token in asked.prompts["text"][row].tolist() if token != PAD]
    return " ".join(word_of[token] for token in ids[len(BEGIN) : -len(asked.text[row].split()) - len(TURN)])


def main() -> None:
    """Write the data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder of premise.py")
    parser.add_argument("--out", type=Path, default=Path("runs/premise/data"))
    parser.add_argument("--order", choices=ORDERS, default=ORDERS[0])
    parser.add_argument("--train", type=int, default=4500)
    parser.add_argument("--test", type=int, default=3000)
    options = parser.parse_args()
    file = write(options.out, options.model, options.order, {"train": options.train, "test": options.test})
    sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main()
