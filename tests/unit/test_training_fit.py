"""The training loop: rates, optimisers, and that a resumed training is the uninterrupted one."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from catalogs.errors import InputError, IntegrityError
from catalogs.progress import Silent
from catalogs.trees.tree import read_tree
from training import checkpoint, losses
from training.answers import TreeAnswers
from training.fit import (
    Precise,
    _images,
    _optimiser,
    _order,
    _rate,
    _spread,
    device_of,
    fit,
    predict,
    read_log,
)
from training.models.registry import build
from training.network import Classifier
from training.objective import Objective, Sample
from training.preprocess import Preprocess
from training.presets import read_settings
from training.settings import AugmentSettings, TrainSettings

TINY = {"widths": (2, 2, 2, 2, 2), "dense": 4}
SETTINGS = read_settings(
    "default",
    None,
    {"epochs": 2, "batch": 8, "warmup": 0, "optimiser": "nesterov", "shape": TINY, "average": 0.5},
)


class Stop(Silent):
    def event(self, name: str, **fields: object) -> None:
        if name == "epoch" and fields["epoch"] == 1:
            raise KeyboardInterrupt


def sample(count: int, side: int) -> Sample:
    torch.manual_seed(0)
    wide = torch.randint(0, 256, (count, side + 20, side + 20, 3), dtype=torch.uint8)
    cutouts = wide[:, 10:-10, 10:-10].contiguous()
    return Sample(wide, cutouts, torch.arange(count) % 2)


@pytest.mark.parametrize("augment", [None, AugmentSettings()])
def test_nesterov_resumes_to_the_same_weights(
    tmp_path: Path, augment: AugmentSettings | None
) -> None:
    settings = replace(SETTINGS, augment=augment)
    data = sample(24, 120)
    for name in ("whole", "halted"):
        (tmp_path / name).mkdir()
    whole = fit(data, data, settings, tmp_path / "whole", Silent())
    with pytest.raises(KeyboardInterrupt):
        fit(data, data, settings, tmp_path / "halted", Stop())
    again = fit(data, data, settings, tmp_path / "halted", Silent())
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_the_papers_rate_falls_to_a_tenth_twice() -> None:
    paper = read_settings("paper", None, {"model": "dieleman"})
    rates = [_rate(step, 2500, paper) for step in (0, 1799, 1800, 2299, 2300, 2499)]
    assert rates == pytest.approx([0.04, 0.04, 0.004, 0.004, 0.0004, 0.0004])


def test_the_optimiser_is_the_one_asked_for_and_spares_biases() -> None:
    settings = TrainSettings(
        model="dieleman",
        shape={"widths": (2, 2, 2, 2), "dense": 4},  # type: ignore[arg-type]
        weight_decay=0.1,
    )
    network = build("dieleman", settings.shape, 37)
    decayed, spared = _optimiser(network, settings).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    untied = {p.shape for p in spared["params"] if p.ndim == 3}
    assert untied == {(2, 40, 40), (2, 16, 16), (2, 6, 6), (2, 4, 4)}
    assert all(p.ndim > 1 for p in decayed["params"])
    nesterov = _optimiser(network, read_settings("paper", None, {"model": "dieleman"}))
    assert isinstance(nesterov, torch.optim.SGD)
    assert nesterov.defaults["nesterov"]
    assert nesterov.defaults["momentum"] == 0.9
    adam = _optimiser(network, read_settings("paper", None, {"model": "resnet50"}))
    assert isinstance(adam, torch.optim.AdamW)
    assert adam.defaults["betas"] == (0.9, 0.99)
    assert all(group["weight_decay"] == 0 for group in adam.param_groups)


@pytest.mark.parametrize("count", [24, 8])
def test_a_training_that_diverges_says_so(tmp_path: Path, count: int) -> None:
    """In a loss; or, where the only step of an epoch did it, in the answers."""
    data = sample(count, 120)
    settings = replace(SETTINGS, learning_rate=1e20, augment=None)
    with pytest.raises(
        InputError, match=r"^training diverged: .* in epoch 1, at a rate of [^\n]*$"
    ):
        fit(data, data, settings, tmp_path, Silent())


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (None, "log.csv has 0 of the 1 epochs that are done; train again"),
        ("epoch,loss\nfoo,bar\n", "log.csv is not what a training run writes"),
        ("epoch,loss\n1,0.5,7\n", "log.csv is not what a training run writes"),
        ("epoch,loss\n2,0.5\n", "log.csv is not what a training run writes"),
        ("loss\n0.5\n", "log.csv is not what a training run writes"),
        ("epoch,loss\n1,0.5\n", "log.csv has epoch, loss instead of epoch, loss, valid"),
    ],
)
def test_a_damaged_log_is_told(tmp_path: Path, log: str | None, said: str) -> None:
    settings, data = replace(SETTINGS, augment=None), sample(8, 120)
    model, average = Classifier(settings), Classifier(settings)
    optimiser = _optimiser(torch.nn.ModuleList([model]), settings)
    checkpoint.save_state(tmp_path, 1, {"model": model, "average": average}, optimiser)
    if log:
        (tmp_path / "log.csv").write_text(log)
    with pytest.raises(IntegrityError, match=said) as caught:
        fit(data, data, settings, tmp_path, Silent())
    assert "\n" not in str(caught.value)


def test_training_stops_when_validation_no_longer_improves(tmp_path: Path) -> None:
    # Validation labels are the wrong way round: learning makes it worse.
    wide = torch.zeros((16, 120, 120, 3), dtype=torch.uint8)
    wide[::2] = 60
    targets = torch.arange(16) % 2
    train, wrong = Sample(wide, wide, targets), Sample(wide[:0], wide, 1 - targets)
    settings = replace(SETTINGS, epochs=30, patience=3, augment=None, average=0.0, batch=16)
    for name in ("whole", "halted"):
        (tmp_path / name).mkdir()
    found = fit(train, wrong, settings, tmp_path / "whole", Silent())
    log = read_log(tmp_path / "whole")
    losses = [line["validation_loss"] for line in log]
    best = losses.index(min(losses))
    assert len(log) == best + 1 + 3 < 30
    with pytest.raises(KeyboardInterrupt):
        fit(train, wrong, settings, tmp_path / "halted", Stop())
    again = fit(train, wrong, settings, tmp_path / "halted", Silent())
    for name, value in found.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    logits = predict(found, wide)[:, 0]
    loss = Objective(found.answers, settings, wrong)(torch.from_numpy(logits)[:, None], slice(None))
    assert float(loss) == pytest.approx(losses[best])


def test_the_first_examples_are_fitted_without_constraints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    loss = losses.squared_error

    def noted(layer, raw, shares, constrained=True):
        told.append(constrained)
        return loss(layer, raw, shares, constrained)

    monkeypatch.setattr(losses, "squared_error", noted)
    shares = torch.rand(24, 37)
    data = replace(sample(24, 120), targets=shares, cumulative=shares)
    given = {"epochs": 2, "batch": 8, "tree": "gz2", "unconstrained": 32, "shape": TINY}
    settings = read_settings("default", None, {**given, "augment": None})
    fit(data, data, settings, tmp_path, Silent(), TreeAnswers(read_tree("gz2")))
    # Six batches of eight, and the validation after each three.
    assert told == [False, False, False, True, False, True, True, True]
    assert read_settings("paper", None, {"model": "dieleman"}).unconstrained == 10_000


def test_no_galaxy_is_seen_twice_in_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reaches the network over three epochs, of one image given sixteen times."""
    one = torch.randint(0, 256, (1, 140, 140, 3), dtype=torch.uint8).repeat(16, 1, 1, 1)
    data = Sample(one, one[:, 10:-10, 10:-10].contiguous(), torch.arange(16) % 2)
    paper = read_settings("paper", None, {"model": "dieleman"}).augment
    seen: list[bytes] = []
    look = Preprocess.normalise

    def noted(self: Preprocess, images: torch.Tensor) -> torch.Tensor:
        seen.extend(image.numpy().tobytes() for image in images)
        return look(self, images)

    monkeypatch.setattr(Preprocess, "normalise", noted)
    fit(data, replace(data, targets=data.targets[:0], cutouts=data.cutouts[:0]),
        replace(SETTINGS, epochs=3, augment=paper), tmp_path, Silent())  # fmt: skip
    assert len(seen) == len(set(seen)) == 48


def test_the_sky_balanced_order_draws_by_weight() -> None:
    data = replace(sample(8, 120), weights=torch.tensor([0.0, 1, 0, 3, 0, 0, 0, 4]))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([_order(data, generator) for _ in range(500)])
    shares = torch.bincount(drawn, minlength=8) / len(drawn)
    torch.testing.assert_close(shares, data.weights / 8, atol=0.03, rtol=0)


@pytest.mark.parametrize("network", ["shamir", "dieleman", "resnet50", "equivariant"])
@pytest.mark.parametrize("augmented", [True, False])
def test_a_step_stays_on_the_models_device(network: str, augmented: bool) -> None:
    """On a device that only follows shapes: one tensor left on the CPU would be an error."""
    shapes = {
        "shamir": TINY,
        "dieleman": {"widths": (2, 2, 2, 2), "dense": 4},
        "resnet50": {"blocks": (1, 1, 1, 1), "width": 2, "dense": 4, "size": 32},
        "equivariant": {"fields": (2, 2), "blocks": (0, 1), "features": 4, "size": 32},
    }
    given = {"model": network, "shape": shapes[network], "seed": 1}
    settings = read_settings("default", None, given)
    changes = AugmentSettings(brightness=0.5) if augmented else None
    settings = replace(settings, augment=changes)
    model = Classifier(settings).to("meta")
    data = sample(2, model.size)
    generator = torch.Generator().manual_seed(1)
    colour = torch.ones(3)
    images = _images(model, data, torch.arange(2), settings, generator, colour)
    assert images.device.type == "meta"
    assert images.shape[0] == 2
    raw = model.network(images)
    assert raw.shape == (2, 1)
    raw.sum().backward()
    assert all(p.grad is not None and p.grad.is_meta for p in model.network.parameters())
    assert model(data.cutouts.to("meta")).shape == (2, 1)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_every_cards_thread_computes_in_the_precision_asked_for(
    precision: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replicas run in threads of their own, which hear nothing of autocast around them."""
    settings = replace(SETTINGS, precision=precision)
    module = _spread(torch.nn.Linear(4, 2), settings, several=True)
    found = []

    def replica() -> None:
        # As torch.nn.parallel.parallel_apply: whether, but not in which type.
        with torch.autocast("cpu", torch.float16, enabled=precision == "bf16"):
            found.append(module(torch.ones(1, 4)).dtype)

    thread = threading.Thread(target=replica)
    thread.start()
    thread.join()
    assert found == [dtype]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    spread = _spread(torch.nn.Linear(4, 2), replace(settings, device="cuda"), several=True)
    assert isinstance(spread, torch.nn.DataParallel)
    assert isinstance(spread.module, Precise)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_card_that_is_not_there_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InputError, match="torch sees no card here"):
        device_of(replace(read_settings("default", None, {}), device="cuda"))


def test_tensorboard_reads_the_log_of_an_interrupted_training(tmp_path: Path) -> None:
    data = sample(24, 120)
    with pytest.raises(KeyboardInterrupt):
        fit(data, data, SETTINGS, tmp_path, Stop())
    (tmp_path / "state.safetensors").unlink()  # killed before the epoch was kept: done again
    fit(data, data, SETTINGS, tmp_path, Silent())
    seen = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    log = read_log(tmp_path)
    for name, curve in (("loss", "loss/train"), ("validation_roc_auc", "validation_roc_auc")):
        events = seen.Scalars(curve)
        assert [event.step for event in events] == [1, 2]
        assert [event.value for event in events] == pytest.approx([line[name] for line in log])
