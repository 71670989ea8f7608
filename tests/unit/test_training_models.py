"""The networks: layers against the papers' tables, parameter counts, one way to choose."""

from __future__ import annotations

import json
import sys
import typing
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from catalogs.errors import InputError
from export.card import NETWORKS as CARDS
from training.models import registry
from training.models.base import Network, multiply_accumulates, parameter_count
from training.models.deepgalaxy import DeepGalaxyNet
from training.models.registry import NETWORKS, build
from training.models.resnet import Bottleneck, ResNet, ResNetShape
from training.models.shamir import ShamirNet, ShamirShape
from training.network import Classifier
from training.presets import read_settings
from training.settings import TrainSettings, dump, parse_settings

SMALL: dict[registry.Name, dict[str, object]] = {
    "shamir": {"widths": (4, 4, 8, 8, 8), "dense": 16, "dropout": 0.0},
    "dieleman": {"widths": (6, 6, 8, 8), "dense": 64, "dropout": 0.0},
    "resnet50": {"blocks": (1, 1, 1, 1), "width": 8, "dense": 16, "size": 64},
    "resnet101": {"blocks": (1, 1, 1, 1), "width": 8, "dense": 16, "size": 64},
    "deepgalaxy": {"filters": 12, "dense": 64, "size": 64},
    "equivariant": {
        "fields": (2, 4, 4),
        "blocks": (0, 1, 1),
        "features": 16,
        "dropout": 0.0,
        "size": 60,
    },
}
RATES = {"deepgalaxy": 3e-4, "equivariant": 1e-2}


def shapes_of(network: nn.Module, kinds: tuple[type, ...], example: Tensor) -> list[tuple]:
    """The shape that each layer of some kinds gives for one image, in order."""
    seen: list[tuple] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[1:])))
        for layer in network.modules()
        if isinstance(layer, kinds)
    ]
    with torch.no_grad():
        network.eval()(example)
    for hook in hooks:
        hook.remove()
    return seen


def test_shamir_five_convolutions_four_poolings_one_logit() -> None:
    shapes = shapes_of(
        ShamirNet(), (nn.Conv2d, nn.MaxPool2d, nn.Linear), torch.zeros(1, 3, 120, 120)
    )
    assert shapes == [
        (16, 120, 120), (16, 60, 60),
        (32, 60, 60), (32, 30, 30),
        (64, 30, 30), (64, 15, 15),
        (96, 15, 15), (96, 7, 7),
        (128, 7, 7),
        (128,), (1,),
    ]  # fmt: skip


def test_shamir_parameters_follow_from_widths_and_kernels() -> None:
    shape = ShamirShape(widths=(4, 6, 8, 10, 12), kernels=(5, 3, 3, 3, 1), dense=7)
    by_hand = (
        4 * (3 * 25) + 6 * (4 * 9) + 8 * (6 * 9) + 10 * (8 * 9) + 12 * 10  # convolutions
        + 2 * (4 + 6 + 8 + 10 + 12)  # scale and shift of the normalisations
        + (12 * 7 * 7) * 7 + 7  # flattened 7x7 maps to the dense layer
        + 7 + 1
    )  # fmt: skip
    assert parameter_count(ShamirNet(shape)) == by_hand
    bare = ShamirShape(widths=(4, 6, 8, 10, 12), kernels=(5, 3, 3, 3, 1), dense=7, batch_norm=False)
    # Biases of the convolutions in the place of scales and shifts.
    assert parameter_count(ShamirNet(bare)) == by_hand - (4 + 6 + 8 + 10 + 12)


def test_the_cost_is_that_of_the_layers_by_hand() -> None:
    by_hand = (
        120 * 120 * 16 * 75 + 60 * 60 * 32 * 16 * 9 + 30 * 30 * 64 * 32 * 9
        + 15 * 15 * 96 * 64 * 9 + 7 * 7 * 128 * 96 * 9 + 128 * 49 * 128 + 128
    )  # fmt: skip
    assert multiply_accumulates(ShamirNet()) == by_hand
    assert by_hand < 0.12e9
    assert parameter_count(ShamirNet()) * 4 < 6e6


@pytest.mark.parametrize(
    ("name", "published"), [("resnet50", 25_557_032), ("resnet101", 44_549_160)]
)
def test_resnets_have_the_published_parameters(name: registry.Name, published: int) -> None:
    full = NETWORKS[name].shape
    assert isinstance(full, ResNetShape)
    with torch.device("meta"):
        plain = ResNet(ResNetShape(full.blocks, dense=0, size=224), 1000)
        further = ResNet(full, 2)
    assert parameter_count(plain) == published
    # MC21: 2,048 pooled features to 1,024, to the classes.
    head = (2048 * 1024 + 1024) + (1024 * 2 + 2)
    assert parameter_count(further) == published - (2048 * 1000 + 1000) + head


def test_resnet50_maps_have_the_sizes_of_the_papers_table() -> None:
    network = ResNet(ResNetShape(size=224), 2)
    shapes = shapes_of(network, (Bottleneck, nn.MaxPool2d, nn.Linear), torch.zeros(1, 3, 224, 224))
    stages = [(256, 56, 56)] * 3 + [(512, 28, 28)] * 4 + [(1024, 14, 14)] * 6 + [(2048, 7, 7)] * 3
    assert shapes == [(64, 56, 56), *stages, (1024,), (2,)]


def test_deep_galaxy_has_one_convolution_of_96_filters_and_two_dense_layers() -> None:
    kinds = (nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Linear)
    shapes = shapes_of(DeepGalaxyNet(outputs=3), kinds, torch.zeros(1, 3, 128, 128))
    maps = [(96, 32, 32), (96, 32, 32), (96, 16, 16)]
    # With the input and the answer, the paper's eight layers.
    assert shapes == [*maps, (256,), (256,), (3,)]


def test_every_name_is_a_network_with_words_for_its_card() -> None:
    assert set(NETWORKS) == set(typing.get_args(registry.Name)) == set(CARDS) == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_network_gives_as_many_outputs_as_asked(name: registry.Name) -> None:
    settings = TrainSettings(model=name, shape=SMALL[name])  # type: ignore[arg-type]
    network: Network = build(name, settings.shape, 37).eval()
    cutouts = torch.zeros((2, network.size, network.size, 3), dtype=torch.uint8)
    assert network(network.preprocess()(cutouts)).shape == (2, 37)


@pytest.mark.parametrize("name", SMALL)
def test_a_classifier_takes_cutouts_of_any_size(name: registry.Name) -> None:
    settings = TrainSettings(model=name, shape=SMALL[name])  # type: ignore[arg-type]
    classifier = Classifier(settings).eval()
    for size in ((64, 64), (200, 131)):
        cutouts = torch.zeros((2, *size, 3), dtype=torch.uint8)
        assert classifier(cutouts).shape == (2, 1)


@pytest.mark.parametrize("name", SMALL)
def test_a_network_can_learn_a_few_images_by_heart(name: registry.Name) -> None:
    """Small widths, random labels: only if every layer passes gradients on."""
    torch.manual_seed(3)
    settings = TrainSettings(model=name, shape=SMALL[name])  # type: ignore[arg-type]
    model = Classifier(settings)
    coarse = torch.randint(0, 256, (20, 12, 12, 3), dtype=torch.uint8)
    cutouts = coarse.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    targets = torch.arange(20) % 2.0
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATES.get(name, 3e-3))
    images = model.preprocess(cutouts)
    for _ in range(80):
        logits = model.network(images).squeeze(1)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss.item() < 0.2:
            break
    assert loss.item() < 0.2


@pytest.mark.parametrize("views", [2, 4])
def test_several_views_answer_alike_for_a_mirrored_galaxy(views: int) -> None:
    torch.manual_seed(0)
    several = Classifier(TrainSettings(views=views)).eval()
    one = Classifier(TrainSettings(views=1)).eval()
    one.load_state_dict(several.state_dict())
    cutouts = torch.randint(0, 256, (3, 120, 120, 3), dtype=torch.uint8)
    mirrored = cutouts.transpose(1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(several(cutouts), several(mirrored))
        assert (one(cutouts) - one(mirrored)).abs().max() > 1e-5
        mean = (one(cutouts) + one(mirrored)) / 2
        if views == 4:
            turned = cutouts.flip(1, 2)
            mean = (mean + (one(turned) + one(turned.transpose(1, 2))) / 2) / 2
        torch.testing.assert_close(several(cutouts), mean)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "lenet"}, "model 'lenet' is none of shamir, dieleman"),
        ({"model": "dieleman", "views": 2}, "the dieleman network turns its images itself"),
        ({"model": "resnet50", "shape": {"widths": (1, 2)}}, "widths: Unexpected keyword"),
        ({"shape": {"dense": 0}}, "dense: Input should be greater than 0"),
    ],
)
def test_settings_that_name_no_network_are_told(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_settings("default", None, given)
    assert "\n" not in str(caught.value)


def test_sizes_that_do_not_fit_are_told() -> None:
    shape = {"kernels": (44, 5, 3, 3), "dense": 8}
    settings = read_settings("default", None, {"model": "dieleman", "shape": shape})
    with pytest.raises(InputError, match="no dieleman network has the sizes"):
        Classifier(settings)
    with pytest.raises(ValueError, match="not the DielemanShape"):
        TrainSettings(model="dieleman", shape=ShamirShape())
    with pytest.raises(InputError, match="no paper"):
        read_settings("paper", None, {"model": "equivariant"})


def test_a_preset_is_the_chosen_networks() -> None:
    paper = read_settings("paper", None, {"model": "dieleman"})
    assert (paper.optimiser, paper.betas[0], paper.batch) == ("nesterov", 0.9, 16)
    assert paper.drops == (0.72, 0.92)
    assert paper.learning_rate == 0.04
    assert paper.augment is not None
    assert paper.augment.zoom == 1.3
    assert read_settings("paper", None, {"model": "resnet50"}).betas == (0.9, 0.99)
    deeper = read_settings("default", None, {"model": "resnet101", "shape": {"dense": 512}})
    assert deeper.shape == ResNetShape(blocks=(3, 4, 23, 3), dense=512)


DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "bundles.md"
OTHERS = """
class Stranger(nn.Module):
    pass

class Unsized(Network):
    pass

class Wide(Mine):
    def forward(self, images):
        return super().forward(images).repeat(1, 2)

class Flat(Mine):
    def forward(self, images):
        return super().forward(images)[:, 0]

class Raises(Mine):
    def forward(self, images):
        raise KeyError("boom")

class Unmade(Mine):
    def __init__(self, shape, outputs):
        raise AttributeError("nope")
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mypackage").mkdir()
    documented = DOCUMENT.read_text().partition("```python\n")[2].partition("```")[0]
    (tmp_path / "mypackage" / "nets.py").write_text(documented + OTHERS)
    (tmp_path / "mypackage" / "bad.py").write_text('raise RuntimeError("bad module")')
    (tmp_path / "mypackage" / "worse.py").write_text("def (:")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [n for n in sys.modules if n.partition(".")[0] == "mypackage"]:
        del sys.modules[name]


@pytest.mark.usefixtures("own")
def test_a_network_of_ones_own_is_named_by_its_import_path() -> None:
    model = "mypackage.nets:Mine"
    settings = read_settings("default", None, {"model": model, "shape": {"width": 5}})
    classifier = Classifier(settings).eval()
    assert parameter_count(classifier) == (75 + 1) * 5 + 5 + 1
    assert classifier(torch.zeros((2, 50, 40, 3), dtype=torch.uint8)).shape == (2, 1)
    values = json.loads(json.dumps(dump(settings)))
    assert values["shape"] == {"width": 5}
    assert parse_settings(values, "again") == settings
    assert read_settings("default", None, {"model": model}).shape.width == 16


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "mypackage.nets:Mine", "shape": {"wide": 5}}, "wide"),
        ({"model": "mypackage.nets:Nobody"}, "cannot be imported"),
        ({"model": "nopackage:Mine"}, "PYTHONPATH"),
        ({"model": "mypackage.bad:Mine"}, "cannot be imported .RuntimeError: bad module"),
        ({"model": "mypackage.worse:Mine"}, "cannot be imported .SyntaxError: invalid syntax"),
        ({"model": "mypackage.nets:Stranger"}, "no subclass of training.models.base.Network"),
        ({"model": "mypackage.nets:Unsized"}, "no number of pixels"),
        ({"model": "nothing"}, "is none of shamir.*no package.module:Class"),
    ],
)
def test_what_is_no_network_is_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_settings("default", None, changed)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Wide", r"forward returned \(2, 2\) for two images, \(2, 1\) was expected"),
        ("Flat", r"forward returned \(2,\) for two images, \(2, 1\) was expected"),
        ("Raises", r"does not answer for cutouts: KeyError: 'boom' \(.*nets\.py, line \d+\)"),
        ("Unmade", r"has the sizes .*: AttributeError: nope \(.*nets\.py, line \d+\)"),
    ],
)
def test_a_network_of_ones_own_that_cannot_answer_is_told(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build(f"mypackage.nets:{name}", registry.kind_of("mypackage.nets:Mine").shape, 1)
    assert "\n" not in str(caught.value)
