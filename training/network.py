"""The whole answer, from cutouts to probabilities: what training fits and export writes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.answers import AnswerLayer, TwoClasses
from training.calibrate import Calibration
from training.models.registry import build
from training.settings import TrainSettings


class Classifier(nn.Module):
    """Preprocessing and network: uint8 or float cutouts (n, h, w, 3) to raw outputs.

    Parameters
    ----------
    settings : TrainSettings
    answers : AnswerLayer, optional
        What the raw outputs mean; it has no weights. By default two classes.
    """

    def __init__(self, settings: TrainSettings, answers: AnswerLayer | None = None) -> None:
        super().__init__()
        self.answers = TwoClasses() if answers is None else answers
        self.network = build(settings.model, settings.shape, self.answers.outputs)
        self.preprocess = self.network.preprocess()
        self.views = settings.views

    @property
    def size(self) -> int:
        """Side of the cutouts that it is trained on [px]."""
        return self.network.size

    def forward(self, cutouts: Tensor, turn: Tensor | None = None) -> Tensor:
        """Return raw outputs, (n, outputs), averaged over the views.

        With ``turn``, (2, 3), of the image seen through this affine map.
        """
        look = self.preprocess
        images = look(cutouts) if turn is None else look.turned(cutouts, turn)
        views = [images]
        # A mirrored or turned galaxy is as good a galaxy; the square grid allows these exactly.
        if self.views >= 2:
            views.append(images.transpose(2, 3))
        if self.views >= 4:
            views += [view.flip(2, 3) for view in tuple(views)]
        return torch.stack([self.network(view) for view in views]).mean(dim=0)


class Annotator(nn.Module):
    """A classifier that answers: cutouts to one calibrated probability per answer.

    What is exported. Several of them together have the same face (`training.averaging`).

    Attributes
    ----------
    answers : tuple of str
        Names of what ``forward`` returns, in order.
    size : int
        Side of the cutouts that it is trained on [px].
    """

    scales: Tensor | None

    def __init__(self, classifier: Classifier, calibration: Calibration) -> None:
        super().__init__()
        self.classifier, self.calibration = classifier, calibration
        self.answers, self.size = classifier.answers.names, classifier.size
        scales = torch.tensor(calibration.scales) if calibration.scales else None
        self.register_buffer("scales", scales, persistent=False)

    def forward(self, cutouts: Tensor, turn: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return one float32 tensor (n,) per answer."""
        scale = self.calibration.scale if self.scales is None else self.scales
        raw = self.classifier(cutouts, turn) * scale + self.calibration.bias
        return self.classifier.answers.columns(raw)
