"""Train the two embedded checkpoints: ``python recipes/tiny_vl.py``.

Four stages, each resumable and reproducible (a batch depends on the seed and the step alone):

1. ``see``: the vision tower alone, with throw-away heads that read every attribute. Without it
   the language model never starts to look.
2. ``speak``: all parameters on clean images → ``tiny-vl``.
3. ``harden``: on from ``tiny-vl``, on shifted images.
4. ``polish``: the same at a lower rate → ``tiny-vl-large``.
"""

import argparse
import hashlib
import logging
import math
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import transformers
from tiny_batches import ATTRIBUTES, SKILLS, Batch, Batches, Mix
from tiny_model import IMAGE, MERGED, build_model, build_processor, save, vision_block, vision_features
from torch import Tensor, nn
from torch.utils.data import DataLoader

log = logging.getLogger("tiny_vl")
CHECKPOINTS = Path(__file__).parents[1] / "relope" / "tiny" / "checkpoints"
SAVE_EVERY = 100


class Stage(NamedTuple):
    """One stage of training."""

    name: str
    steps: int
    rows: int
    rate: float
    mix: Mix
    auxiliary: float
    checkpoint: str = ""


STAGES = (
    Stage("see", 1300, 64, 2e-3, Mix(), 1.0),
    Stage("speak", 1500, 48, 2e-3, Mix(), 0.3, "tiny-vl"),
    Stage("harden", 700, 48, 1e-3, Mix(shifted=0.85), 0.2),
    Stage("polish", 800, 48, 8e-4, Mix(shifted=0.9), 0.0, "tiny-vl-large"),
)


class Heads(nn.Module):
    """Linear heads that read every attribute from the 16 merged image tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(MERGED * 128)
        self.out = nn.Linear(MERGED * 128, sum(ATTRIBUTES.values()))

    def loss(self, features: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean cross-entropy and accuracy over the attributes that are asked."""
        logits = self.out(self.norm(features.flatten(1))).split(list(ATTRIBUTES.values()), 1)
        losses = [
            F.cross_entropy(part, attributes[:, n], ignore_index=-100, reduction="sum") for n, part in enumerate(logits)
        ]
        right = sum((part.argmax(1) == attributes[:, n]).sum() for n, part in enumerate(logits))
        asked = (attributes >= 0).sum()
        return torch.stack(losses).sum() / asked, right / asked


def answer_loss(model: Any, batch: Batch, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted next-token loss of the tails and the accuracy of every skill."""
    language = model.model.language_model
    embedded = language.embed_tokens(batch.ids)
    where = (batch.ids == IMAGE) & batch.seen[:, None]
    embedded = embedded.masked_scatter(where[..., None], features[batch.seen].reshape(-1, features.shape[-1]))
    hidden = language(
        inputs_embeds=embedded,
        position_ids=batch.positions,
        attention_mask={"full_attention": batch.mask},
        use_cache=False,
    ).last_hidden_state
    logits = model.lm_head(hidden[batch.row, batch.place])
    losses = F.cross_entropy(logits, batch.target, reduction="none")
    hits = torch.bincount(batch.skill, logits.argmax(1) == batch.target, len(SKILLS))
    asked = torch.bincount(batch.skill, minlength=len(SKILLS))
    return (losses * batch.weight).sum() / asked[1:].sum(), hits / asked


def rate_at(stage: Stage, step: int) -> float:
    """Return the learning rate: linear warm-up, then a cosine to 2 % (30 % for ``see``)."""
    floor = 0.3 if stage.name == "see" else 0.02
    cosine = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
    return stage.rate * min(1.0, (step + 1) / 100) * (floor + (1 - floor) * cosine)


def optimizer_for(parameters: list[nn.Parameter]) -> torch.optim.AdamW:
    """Build AdamW with weight decay on matrices only."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.03},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), fused=True)


class Trainer:
    """Model, heads and the files that let training go on after an interruption."""

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.seed = work, seed
        work.mkdir(parents=True, exist_ok=True)
        self.model: Any = build_model(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed + 1)
            self.heads = Heads()
        self.run_block = torch.compile(vision_block, dynamic=False)
        for layer in self.model.model.language_model.layers:
            layer.forward = torch.compile(layer.forward, dynamic=False)

    def run(self, stage: Stage) -> float:
        """Train one stage, from its last saved step on; return the seconds it took in all."""
        vision = stage.name == "see"
        trained = self.model.model.visual if vision else self.model
        parameters = [*trained.parameters(), *self.heads.parameters()]
        optimizer = optimizer_for(parameters)
        first, spent = self._restore(stage, optimizer)
        loader = DataLoader(
            Batches(self.seed * 16 + STAGES.index(stage), first, stage.steps, stage.rows, stage.mix),
            batch_size=None,
            num_workers=1,
            prefetch_factor=4,
        )
        begun = time.perf_counter()
        for step, batch in enumerate(loader, first):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(stage, step)
            features = vision_features(self.model.model.visual, batch.pixels, self.run_block)
            loss, right = self.heads.loss(features, batch.attributes)
            if not vision:
                answers, right = answer_loss(self.model, batch, features)
                loss = answers + stage.auxiliary * (1 - step / stage.steps) * loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            if (step + 1) % 25 == 0:
                now = spent + time.perf_counter() - begun
                shown = " ".join(f"{value:.2f}" for value in right.detach().flatten().tolist())
                log.info(
                    "%s %d/%d loss %.3f right %s %.0f s", stage.name, step + 1, stage.steps, loss.item(), shown, now
                )
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == stage.steps:
                self._keep(stage, optimizer, step + 1, spent + time.perf_counter() - begun)
        return spent + time.perf_counter() - begun

    def _keep(self, stage: Stage, optimizer: torch.optim.Optimizer, step: int, seconds: float) -> None:
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "seconds": seconds,
        }
        partial = self.work / f"{stage.name}.partial"
        torch.save(state, partial)
        partial.rename(self.work / f"{stage.name}.pt")

    def _restore(self, stage: Stage, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
        path = self.work / f"{stage.name}.pt"
        if not path.exists():
            return 0, 0.0
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        return state["step"], state["seconds"]


def main() -> None:
    """Run the stages that are not done and write the checkpoints they name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/tiny_vl_training"), help="folder to resume from")
    parser.add_argument("--out", type=Path, default=CHECKPOINTS, help="where the checkpoint folders go")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    trainer, seconds = Trainer(options.work, options.seed), {}
    for stage in STAGES:
        seconds[stage.name] = round(trainer.run(stage), 1)
        if stage.checkpoint:
            record = {
                "seed": options.seed,
                "stages": {
                    s.name: {**s._asdict(), "mix": s.mix._asdict(), "seconds": seconds[s.name]}
                    for s in STAGES
                    if s.name in seconds
                },
                "threads": options.threads,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "machine": platform.machine(),
            }
            folder = options.out / stage.checkpoint
            save(trainer.model, build_processor(), folder, record)
            digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
            log.info("%s sha256 %s", folder, digest)


if __name__ == "__main__":
    main()
