"""Gradient reversal: its gradients by hand, and what it takes from features."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

from catalogs.config import parse
from catalogs.errors import InputError
from catalogs.progress import Silent
from experiments.probes import penultimate
from training.fit import fit, predict, read_log
from training.network import Classifier
from training.objective import Objective, Sample
from training.presets import read_settings
from training.reversal import Adversary, draw_parts, reverse, strength
from training.settings import AdversarySettings, SplitSettings, TrainSettings
from training.splits import TRAIN, sky_blocked

GIVEN = {
    "epochs": 16,
    "batch": 16,
    "warmup": 4,
    "average": 0.9,
    "learning_rate": 0.005,
    "augment": None,
    "precision": "fp32",
    "shape": {"size": 16, "widths": [4, 4, 4, 4, 4], "dense": 8, "dropout": 0.0},
}
PLAIN = read_settings("default", None, GIVEN)
REVERSED = read_settings("default", None, GIVEN | {"adversary": {"order": 0, "strength": 1.0}})


def test_the_schedule_is_the_papers() -> None:
    # 2 / (1 + exp(-x)) - 1 = tanh(x / 2)
    asked = AdversarySettings(order=0, strength=0.7, gamma=6.0)
    for p in (0.0, 0.25, 1.0):
        assert strength(p, asked) == pytest.approx(0.7 * math.tanh(3.0 * p))


def test_gradients_are_those_of_two_losses_taken_apart() -> None:
    """Below the reversal: that of the classes minus lambda times that of the parts; above, both."""
    torch.manual_seed(1)
    body, head = nn.Linear(5, 3), nn.Linear(3, 4)
    images, parts = torch.randn(20, 5), torch.arange(20) % 4

    def loss(lam: float | None) -> torch.Tensor:
        features = torch.tanh(body(images))
        told = head(features if lam is None else reverse(features, lam))
        return functional.cross_entropy(told, parts)

    below, above = list(body.parameters()), list(head.parameters())
    plain = torch.autograd.grad(loss(None), below + above)
    turned = torch.autograd.grad(loss(0.3), below + above)
    for k, (a, b) in enumerate(zip(plain, turned, strict=True)):
        torch.testing.assert_close(b, -0.3 * a if k < len(below) else a)
    assert torch.equal(loss(None), loss(0.3))


def test_a_networks_gradient_is_that_of_both_losses() -> None:
    torch.manual_seed(0)
    model = Classifier(PLAIN)
    random = np.random.default_rng(3)
    data = pictures(np.arange(16) % 2, random.integers(0, 2, 16), random)
    adversary = Adversary(model.network, data, AdversarySettings(order=0, strength=1.0, gamma=4.0))
    chosen = torch.arange(8, 16)
    model.network.eval()
    images = model.preprocess(data.cutouts)
    objective = Objective(model.answers, PLAIN, data)
    first = model.network.features[0].weight
    both = objective(model.network(images)[:8], slice(0, 8)) + adversary.loss(chosen, 0.5)
    (found,) = torch.autograd.grad(both, first)
    (classes,) = torch.autograd.grad(objective(model.network(images)[:8], slice(0, 8)), first)
    features = model.network.head[:-1](model.network.features(images))[8:]
    told = functional.cross_entropy(adversary.head(features), data.targets[chosen])
    (parts,) = torch.autograd.grad(told, first)
    torch.testing.assert_close(found, classes - math.tanh(1.0) * parts)


def pictures(spiral, bright, random) -> Sample:
    """Red over blue tells the class; half of the sky is brighter. Targets: the class."""
    hue = 50.0 * spiral - 25 + random.normal(0, 25, len(spiral))
    level = 90.0 + 60 * bright
    images = np.repeat(level, 16 * 16 * 3).reshape(-1, 16, 16, 3)
    images += random.normal(0, 5, images.shape)
    images[..., 0] += hue[:, None, None]
    images[..., 2] -= hue[:, None, None]
    cutouts = torch.from_numpy(np.clip(images, 0, 255).astype(np.uint8))
    return Sample(cutouts, cutouts, torch.from_numpy(np.asarray(spiral, np.int64)))


class Stop(Silent):
    def event(self, name: str, **fields: object) -> None:
        if name == "epoch" and fields["epoch"] == 1:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory):
    """The same training without and with reversal: spirals of the bright half, ellipticals not."""
    random = np.random.default_rng(5)
    spiral = np.arange(200) % 2
    train = pictures(spiral, spiral ^ (random.random(200) < 0.1), random)
    bright = np.arange(300) % 2
    sky = pictures(random.integers(0, 2, 300), bright, random)
    sky = replace(sky, targets=torch.from_numpy(bright))
    found = {}
    for name, settings in (("plain", PLAIN), ("reversed", REVERSED)):
        run = tmp_path_factory.mktemp(name)
        given = None if settings.adversary is None else sky
        found[name] = (fit(train, train, settings, run, Silent(), sky=given), run)
    return train, sky, found


def test_features_tell_the_part_less_and_answers_follow_it_less(learnt) -> None:
    random = np.random.default_rng(9)
    spiral, bright = random.integers(0, 2, 600), random.integers(0, 2, 600)
    test = pictures(spiral, bright, random)
    told, right, shift = {}, {}, {}
    for name, (model, _) in learnt[2].items():
        features = penultimate(model, test.cutouts)
        features = (features - features.mean(0)) / (features.std(0) + 1e-6)
        line = LogisticRegression(max_iter=1000).fit(features[:300], bright[:300])
        told[name] = line.score(features[300:], bright[300:])
        said = predict(model, test.cutouts)[:, 0] > 0
        right[name] = np.mean(said == spiral)
        shift[name] = said[bright == 1].mean() - said[bright == 0].mean()
    assert told["plain"] > 0.85 > 0.8 > told["reversed"]
    assert shift["reversed"] < 0.6 * shift["plain"]
    assert right["reversed"] > right["plain"] + 0.03


def test_a_resumed_training_has_the_same_weights_and_no_adversary(learnt, tmp_path: Path) -> None:
    train, sky, found = learnt
    short = replace(REVERSED, epochs=2)
    for name in ("whole", "halted"):
        (tmp_path / name).mkdir()
    whole = fit(train, train, short, tmp_path / "whole", Silent(), sky=sky)
    with pytest.raises(KeyboardInterrupt):
        fit(train, train, short, tmp_path / "halted", Stop(), sky=sky)
    again = fit(train, train, short, tmp_path / "halted", Silent(), sky=sky)
    assert read_log(tmp_path / "halted") == read_log(tmp_path / "whole")
    assert read_log(found["reversed"][1])[-1]["parts_loss"] > 0.3
    plain = found["plain"][0].state_dict()
    assert list(again.state_dict()) == list(plain)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not any(module._forward_pre_hooks for module in again.modules())


def test_parts_are_drawn_from_training_tiles_alone() -> None:
    random = np.random.default_rng(2)
    ra, dec = random.uniform(0, 90, 2000), random.uniform(-30, 30, 2000)
    regions = {"west": "45..90,-30..30", "east": "0..45,-30..30", "far": "200..210,0..9"}
    split = SplitSettings(order=3)
    asked = AdversarySettings(regions=regions, most=300)
    settings = TrainSettings(split=split, adversary=asked)
    drawn = draw_parts(ra, dec, settings)
    assert drawn.names == ("east", "west")
    assert drawn.counts == {"east": 300, "west": 300}
    assert np.array_equal(ra[drawn.rows] > 45, drawn.targets == 1)
    assert np.all(sky_blocked(ra, dec, split)[drawn.rows] == TRAIN)
    tiles = replace(settings, adversary=AdversarySettings(order=1, most=10**6, fewest=2))
    whole = draw_parts(ra, dec, tiles)
    assert sum(whole.counts.values()) == np.sum(sky_blocked(ra, dec, split) == TRAIN)
    for changed, said in (
        ({"fewest": 10**4}, "0 parts of the sky have 10000"),
        ({"regions": {"a": "0..60,-30..30", "b": "50..90,-30..30"}}, "overlap"),
    ):
        with pytest.raises(InputError, match=said):
            draw_parts(ra, dec, replace(settings, adversary=replace(asked, **changed)))
    with pytest.raises(InputError, match="give order"):
        parse(TrainSettings, {"adversary": {"strength": 2.0}}, "settings")
