"""From nothing to a routing curve: extract once, fit three routers, compare them, draw.

Runs without a GPU or a download: ``python examples/one_run.py [folder]``.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

import relope

runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/one-run")

# One prefill and one short answer a question; states of blocks 3 and 4 go to disk.
small = relope.extract(model="tiny-vl", dataset="tiny", split=["train", "test"], limit=600, out=runs / "tiny.zarr")
large = relope.extract(model="tiny-vl-large", dataset="tiny", split="test", limit=600, out=runs / "large.zarr")

# Routers learn from the store alone: no model is loaded again.
for method in ("question-confidence", "probe", "posthoc"):
    router = relope.fit(method, store=small.path)
    relope.predict(router=router.path, store=small.path)

report = relope.evaluate(store=small.path, large_store=large.path, methods=["question-confidence", "probe", "posthoc"])
print(report.methods.select("method", "n", "auc", "ci95_low", "ci95_high"))  # noqa: T201

for method, curve in report.curves.items():
    plt.plot(range(101), [100 * accuracy for accuracy in curve], label=method)
plt.xlabel("questions sent to the large model, %")
plt.ylabel("answered rightly by the system, %")
plt.legend()
plt.savefig(runs / "curves.png", dpi=120)
