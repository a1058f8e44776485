"""Defines what torchvision's CUDA build looks up when it is imported beside a torch without CUDA; named in a .pth."""

import importlib.abc
import sys


class _First(importlib.abc.MetaPathFinder):
    """Finds nothing: it acts when torchvision is first looked for."""

    def find_spec(self, fullname, path=None, target=None):
        """Define the operators that the missing library would."""
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                self.library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _kept.append(self.library)


_kept = []
sys.meta_path.insert(0, _First())
