"""The whole answer, from cutouts to log-odds: what training fits and export writes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.models.registry import build
from training.settings import TrainSettings


class Classifier(nn.Module):
    """Preprocessing and network: uint8 or float cutouts (n, h, w, 3) to one logit, (n,)."""

    def __init__(self, settings: TrainSettings) -> None:
        super().__init__()
        self.network = build(settings.model, settings.shape, outputs=1)
        self.preprocess = self.network.preprocess()
        self.views = settings.views

    @property
    def size(self) -> int:
        """Side of the cutouts that it is trained on [px]."""
        return self.network.size

    def forward(self, cutouts: Tensor) -> Tensor:
        """Return the log-odds of the second class, averaged over the views."""
        images = self.preprocess(cutouts)
        views = [images]
        # A mirrored or turned galaxy is as good a galaxy; the square grid allows these exactly.
        if self.views >= 2:
            views.append(images.transpose(2, 3))
        if self.views >= 4:
            views += [view.flip(2, 3) for view in tuple(views)]
        logits = [self.network(view).squeeze(1) for view in views]
        return torch.stack(logits).mean(dim=0)
