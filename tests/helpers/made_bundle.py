"""A bundle that no calibration made, for tests of the server: its record alone, or with files that nobody opens."""

import numpy as np

from relope.evaluate.numbers.calibration import Calibration
from relope.evaluate.numbers.guarantee import Promise
from relope.evaluate.numbers.thresholds import ThresholdRow
from relope.serve.bundle import Bundle, Made, write_bundle
from relope.serve.card import write_card


def made_bundle(threshold=0.5, scores=None):
    """Return a bundle whose calibration scores are uniform."""
    scores = np.linspace(0, 1, 500) if scores is None else scores
    rows = tuple(ThresholdRow(p, p / 100, p / 100, (0.0, 1.0), 0.8, (0.7, 0.9)) for p in range(1, 100))
    return Bundle(
        method="probe", layer=4, before_answer=True, model="tiny-small", source="tiny", revision="", backbone={},
        calibration=Calibration(kind="platt", scores=(0.0, 1.0), correct=(0.0, 1.0)),
        promise=Promise("share escalated", 0.5, 0.95, 500, threshold, 0.48, None), accuracy_is="kept", table=rows,
        made=Made(dataset="tiny", splits=("validation",), n=500, n_groups=500, n_correct=300, auc=0.8,
                  auc_ci95=(0.7, 0.9), grader="exact@1", large="", recipe_id="r", date="2026-11-26"),
        fingerprint="f" * 64, scores=tuple(scores),
    )  # fmt: skip


def written_bundle(folder, threshold=0.5):
    """Write a bundle with a few files beside its manifest."""
    (folder / "block_4").mkdir(parents=True)
    (folder / "router.json").write_text("{}")
    (folder / "block_4" / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    bundle = made_bundle(threshold)
    write_card(folder, bundle)
    write_bundle(folder, bundle)
    return folder


def calibrated(store, method, out, split="test", fitted=True, **settings):
    """Fit a method on a store's training questions, calibrate it on others, and return the bundle's folder."""
    from relope import steps
    from relope.spec import build

    router = method
    if fitted:
        fit = {"method": method, "store": store, "set": settings, "out": out / f"{method}-router"}
        router = str(steps.run(build("fit", fit)).path)
    asked = {"router": router, "store": store, "split": split, "budget": 0.5, "out": out / method}
    return steps.run(build("calibrate", asked)).path
