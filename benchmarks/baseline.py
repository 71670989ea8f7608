"""Two loops that a PyTorch user would write: from a folder of images to a CSV of labels.

plain   what the tutorials show: a Dataset of files decoded with Pillow, a DataLoader with two
        workers, the network in eager fp32.
best    what somebody writes who knows where the time goes: channels last, bf16 autocast, larger
        batches, no scaling of images that have the network's size, glibc told to keep freed
        memory, the best of several thread counts, and torch.compile where it works.

Each prints one line of JSON. The network and its weights are those of a training run.

    python -m benchmarks.baseline plain --run NAME.run --images FOLDER --to labels.csv
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from training.checkpoint import Run
from training.models.base import MEAN, SD
from training.network import Classifier


class Images(Dataset):
    """Files of a folder: the name, and the pixels as uint8 (channels, height, width)."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.jpg"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[str, torch.Tensor]:
        file = self.files[index]
        with Image.open(file) as image:
            pixels = np.array(image.convert("RGB"))
        return file.stem, torch.from_numpy(pixels).permute(2, 0, 1)


class Network(torch.nn.Module):
    """Normalised views of the images through the run's network: the probability of a spiral."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        trained = Run.open(run)
        classifier = Classifier(trained.settings)
        classifier.load_state_dict(trained.weights)
        self.network, self.views = classifier.network, trained.settings.views
        self.calibration = trained.result.calibration
        self.names, self.threshold = trained.data.names, trained.result.threshold
        self.eval()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        images = (pixels.float() - MEAN) / SD
        views = [images, images.transpose(2, 3)][: self.views]
        logits = torch.stack([self.network(view).squeeze(1) for view in views]).float().mean(0)
        return torch.sigmoid(logits * self.calibration.scale + self.calibration.bias)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["plain", "best"])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--threads", type=int, help="torch's; its own choice by default")
    parser.add_argument("--loaders", type=int, default=2)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--compile", action="store_true")
    chosen = parser.parse_args()
    best = chosen.kind == "best"
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    images = Images(chosen.images)
    # The first batch is start-up, so there must be others.
    batch = min(chosen.batch or (256 if best else 64), max(len(images) // 3, 1))
    network: torch.nn.Module = Network(chosen.run)
    names, threshold = network.names, network.threshold
    spiral = names.index("spiral")
    if best:
        network = network.to(memory_format=torch.channels_last)
    if chosen.compile:
        network = torch.compile(network, dynamic=False)
    loader = DataLoader(images, batch, num_workers=chosen.loaders, persistent_workers=False)
    arithmetic = torch.autocast("cpu", torch.bfloat16) if best else contextlib.nullcontext()
    if chosen.compile:  # compiled before the clock starts, as our own start-up is left out
        with torch.inference_mode(), arithmetic:
            for _ in range(2):
                example = torch.zeros((batch, 3, 120, 120), dtype=torch.uint8)
                network(example.contiguous(memory_format=torch.channels_last))
    done, first = 0, 0.0
    with chosen.to.open("w", newline="") as stream, torch.inference_mode(), arithmetic:
        writer = csv.writer(stream)
        writer.writerow(["id", "p_spiral", "label"])
        for ids, pixels in loader:
            given = pixels.contiguous(memory_format=torch.channels_last) if best else pixels
            if chosen.compile and len(given) < batch:  # one shape is compiled
                given = torch.nn.functional.pad(given, (0, 0) * 3 + (0, batch - len(given)))
            p = network(given)[: len(ids)].float()
            p = p if spiral == 1 else 1 - p
            for name, value in zip(ids, p.tolist(), strict=True):
                label = "spiral" if value >= threshold else names[1 - spiral]
                writer.writerow([name, f"{value:.6f}", label])
            if not first:
                first = time.perf_counter()  # the first batch is start-up
            else:
                done += len(ids)
    seconds = time.perf_counter() - first
    print(
        json.dumps(
            {
                "kind": chosen.kind,
                "images": len(images),
                "rate": done / seconds,
                "threads": torch.get_num_threads(),
                "loaders": chosen.loaders,
                "batch": batch,
                "compiled": chosen.compile,
            }
        )
    )


if __name__ == "__main__":
    main()
