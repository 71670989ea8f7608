"""The whole answer, from cutouts to calibrated log-odds: what training fits and export writes."""

from __future__ import annotations

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

    @property
    def size(self) -> int:
        """The network's input size [px]."""
        return self.network.trained_size

    def forward(self, cutouts: Tensor) -> Tensor:
        """Return the log-odds of the second class."""
        logits: Tensor = self.network(self.preprocess(cutouts))
        return logits.squeeze(1)
