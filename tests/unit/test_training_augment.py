import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from training.augment import AugmentSettings, _blur, augment, principal_colour

OFF = AugmentSettings(
    rotate=False, flip=False, zoom=1, shift=0, gain=0, colour=0, saturation=0, background=0,
    noise=0, blur=0,
)  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 4, side: int = 170) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=generator(9)).float()


def changed(**values: object) -> AugmentSettings:
    from dataclasses import replace

    return replace(OFF, **values)


def test_without_changes_a_view_is_the_centre_of_the_image() -> None:
    source = images()
    views = augment(source, 120, OFF, generator())
    assert torch.equal(views, source[:, :, 25:145, 25:145])


def test_the_generator_alone_decides() -> None:
    source = images()
    first = augment(source, 120, AugmentSettings(), generator(1))
    assert torch.equal(first, augment(source, 120, AugmentSettings(), generator(1)))
    assert not torch.equal(first, augment(source, 120, AugmentSettings(), generator(2)))


def test_views_are_whole_grey_levels() -> None:
    views = augment(images(), 120, AugmentSettings(), generator())
    assert torch.equal(views, views.round())
    assert views.min() >= 0
    assert views.max() <= 255


def test_flip_mirrors_about_half_of_the_images() -> None:
    source = images(40, 40)
    views = augment(source, 40, changed(flip=True), generator())
    mirrored = [torch.equal(v, s.flip(2)) for v, s in zip(views, source, strict=True)]
    same = [torch.equal(v, s) for v, s in zip(views, source, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 10 <= sum(mirrored) <= 30


def test_turning_leaves_a_round_galaxy_and_turns_a_long_one() -> None:
    y, x = np.indices((170, 170)) - 84.5
    round_one = 200 * np.exp(-(x**2 + y**2) / (2 * 15.0**2))
    long_one = 200 * np.exp(-(x**2) / (2 * 30.0**2) - y**2 / (2 * 8.0**2))
    source = torch.tensor(np.stack([round_one, long_one])).float()[:, None].repeat(1, 3, 1, 1)
    views = augment(source, 120, changed(rotate=True), generator(3))
    centre = source[:, :, 25:145, 25:145]
    assert (views[0] - centre[0]).abs().max() <= 1
    assert (views[1] - centre[1]).abs().max() > 50
    # Second moments: the long axis keeps its length, only its angle changes.
    yy, xx = np.indices((120, 120)) - 59.5
    weight = views[1, 0].numpy() / views[1, 0].numpy().sum()
    moments = np.array([[np.sum(weight * a * b) for b in (xx, yy)] for a in (xx, yy)])
    np.testing.assert_allclose(np.sqrt(np.linalg.eigvalsh(moments)), [8, 27], rtol=0.1)


def test_zoom_changes_the_size_within_its_range() -> None:
    y, x = np.indices((170, 170)) - 84.5
    disk = torch.tensor(255.0 * (x**2 + y**2 < 30**2)).float().repeat(32, 3, 1, 1)
    areas = (augment(disk, 120, changed(zoom=1.5), generator()) > 127).sum(dim=(2, 3))[:, 0]
    radii = (areas.numpy() / np.pi) ** 0.5 / 30
    assert radii.min() >= 1 / 1.5 - 0.02
    assert radii.max() <= 1.5 + 0.02
    assert radii.max() / radii.min() > 1.5


def test_blur_is_scipys_gaussian() -> None:
    source = images(3, 60)
    draws = torch.tensor([0.3, 0.7, 1.0])
    blurred = _blur(source.unsqueeze(1), 1.5, lambda: draws).squeeze(1)
    for i, sigma in enumerate(1.5 * draws.numpy()):
        # torch's "reflect" is scipy's "mirror"; both kernels reach 5 px.
        expected = gaussian_filter(source[i].numpy(), sigma, axes=(1, 2), mode="mirror", radius=5)
        np.testing.assert_allclose(blurred[i].numpy(), expected, atol=0.01)


def test_noise_and_background_have_their_size() -> None:
    flat = torch.full((64, 3, 40, 40), 100.0)
    noisy = augment(flat, 40, changed(noise=8.0), generator())
    spread = noisy.std(dim=(1, 2, 3))
    assert spread.max() < 8.5
    assert spread.max() > 4.0
    assert (spread == 0).any()
    shifted = augment(flat, 40, changed(background=6.0), generator()).mean(dim=(1, 2, 3)) - 100
    assert shifted.abs().max() <= 6
    assert shifted.max() > 3
    assert shifted.min() < -3


def test_brightness_changes_along_the_first_colour_component() -> None:
    from sklearn.decomposition import PCA

    random = np.random.default_rng(0)
    light = random.gamma(0.5, 30, (6, 20, 20, 1)) * [1.0, 0.85, 0.7]
    cutouts = np.clip(light + random.normal(10, 3, (6, 20, 20, 3)), 0, 255).astype(np.uint8)
    pca = PCA(1).fit(cutouts.reshape(-1, 3) / 255.0)
    expected = 255.0 * pca.explained_variance_[0] * np.abs(pca.components_[0])
    colour = principal_colour(torch.from_numpy(cutouts))
    np.testing.assert_allclose(colour.numpy(), expected, rtol=1e-4)
    flat = torch.full((400, 3, 8, 8), 120.0)
    strong = torch.tensor([20.0, 15.0, 10.0])
    views = augment(flat, 8, changed(brightness=0.5), generator(), colour=strong)
    steps = (views - 120)[:, :, 0, 0]
    np.testing.assert_allclose(steps.std(dim=0).numpy(), [10, 7.5, 5], rtol=0.12)
    assert np.linalg.matrix_rank(steps.numpy(), tol=30) == 1
