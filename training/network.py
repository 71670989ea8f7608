"""The whole answer, from cutouts to calibrated log-odds: what training fits and export writes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.models.shamir import ShamirNet
from training.preprocess import Preprocess
from training.settings import TrainSettings

# Mean and standard deviation of SDSS cutouts in Galaxy Zoo's framing, grey levels.
MEAN, SD = 10.0, 20.0


class Classifier(nn.Module):
    """Preprocessing and network: uint8 or float cutouts (n, h, w, 3) to one logit, (n,)."""

    def __init__(self, settings: TrainSettings) -> None:
        super().__init__()
        self.network = ShamirNet(settings.shape)
        self.preprocess = Preprocess(self.network.trained_size, MEAN, SD)
        self.views = settings.views

    @property
    def size(self) -> int:
        """The network's input size [px]."""
        return self.network.trained_size

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
