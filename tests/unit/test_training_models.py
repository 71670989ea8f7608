import pytest
import torch

from training.models.shamir import (
    ShamirNet,
    ShamirShape,
    multiply_accumulates,
    parameter_count,
)
from training.network import Classifier
from training.settings import TrainSettings


def test_five_convolutions_four_poolings_one_logit() -> None:
    network = ShamirNet().eval()
    kinds = [type(layer) for layer in network.modules()]
    assert kinds.count(torch.nn.Conv2d) == 5
    assert kinds.count(torch.nn.MaxPool2d) == 4
    assert network(torch.zeros(3, 3, 120, 120)).shape == (3, 1)


def test_parameters_follow_from_widths_and_kernels() -> None:
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


def test_cost_is_what_torch_counts_and_within_the_cap() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    network = ShamirNet().eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.zeros(1, 3, 120, 120))
    assert multiply_accumulates(network) == counter.get_total_flops() // 2
    assert multiply_accumulates(network) < 0.12e9
    assert parameter_count(network) * 4 < 6e6


@pytest.mark.parametrize("size", [(120, 120), (240, 240), (200, 131)])
def test_classifier_takes_cutouts_of_any_size(size: tuple[int, int]) -> None:
    classifier = Classifier(TrainSettings()).eval()
    cutouts = torch.zeros((2, *size, 3), dtype=torch.uint8)
    assert classifier(cutouts).shape == (2,)


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
