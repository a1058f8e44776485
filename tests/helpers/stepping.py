"""Steps run in this process, and small data sets of one's own."""

import json

from PIL import Image

from relope import steps
from relope.spec import build


def step(name, **values):
    """Run a step; paths may be given as such."""
    return steps.run(
        build(name, {key: str(value) if hasattr(value, "parts") else value for key, value in values.items()})
    )


def question(number, **changes):
    """A row of a data set of one's own, with a picture of its own."""
    row = {
        "id": f"q{number}",
        "split": "test" if number % 2 else "train",
        "question": f"which of these is number {number}?",
        "choices": ["red", "blue", "green"],
        "answer": "ABC"[number % 3],
        "image": f"{number}.png",
    }
    return {**row, **changes}


def write_rows(folder, rows, shade=0):
    """Write rows and their pictures; another shade makes other pictures. Return the file."""
    folder.mkdir(parents=True)
    for number, row in enumerate(rows):
        Image.new("RGB", (32, 32), (7 * number + shade, 90, 120)).save(folder / row["image"])
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def report_of(path):
    """Read report.json."""
    return json.loads((path / "report.json").read_text())
