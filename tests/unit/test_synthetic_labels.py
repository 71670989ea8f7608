"""What people say, and every injected truth and bias found again in what they say."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.metrics import roc_auc_score

from catalogs.errors import InputError
from catalogs.sky import Region, unit_vectors
from catalogs.synthetic.biases import TrainingRegion, bias
from catalogs.synthetic.conditions import conditions_at
from catalogs.synthetic.labels import LabelSettings, label, resolution, smooth_probability
from catalogs.synthetic.observed import observe_sky, table_columns
from catalogs.synthetic.population import draw_population
from catalogs.synthetic.settings import SimulationSettings
from catalogs.synthetic.truth import Clustered, Dipole, Patch, Truth, spiral_probability

REGION = Region(150, 200, 10, 50)
NOWHERE = Region(80, 82, -60, -50)  # outside the footprint
N = 97_600


def mixed(seed: int, n: int = N) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes, Petrosian radii [arcsec] and seeing [arcsec] as in a survey."""
    rng = np.random.default_rng(seed)
    truth = np.where(rng.random(n) < 0.49, "spiral", "elliptical")
    return truth, 6 * np.exp(0.35 * rng.normal(size=n)), rng.uniform(1.0, 1.8, n)


def table_of(settings: SimulationSettings, n: int) -> dict[str, np.ndarray]:
    galaxies = draw_population(0, n, settings.population)
    return table_columns(galaxies, observe_sky(galaxies, settings), settings)


def fitted_theta(alpha: np.ndarray, smooth: np.ndarray) -> tuple[float, float]:
    """Maximum likelihood of equation 4 on galaxies that have features, and its error."""

    def loss(log_theta: float) -> float:
        x = alpha**2 / (2 * np.exp(2 * log_theta))
        return float(np.where(smooth, x, -np.log(-np.expm1(-x))).sum())

    found = optimize.minimize_scalar(loss, bounds=(0, 5), method="bounded").x
    step = 1e-3
    curvature = (loss(found + step) - 2 * loss(found) + loss(found - step)) / step**2
    return float(np.exp(found)), float(np.exp(found) / np.sqrt(curvature))


def test_resolution_is_the_radius_over_the_sigma_of_a_gaussian():
    x = np.linspace(-10, 10, 20001)
    profile = stats.norm.pdf(x, scale=0.7)
    fwhm = np.ptp(x[profile > profile.max() / 2])
    assert resolution(np.array([7.0]), np.array([fwhm]))[0] == pytest.approx(10, rel=2e-3)


@pytest.mark.parametrize("theta", [4.0, 9.18, 20.0])
def test_theta_is_found_again(theta):
    truth, radius, seeing = mixed(1)
    labels = label(np.arange(N), truth, radius, seeing, LabelSettings(theta), 5)
    disks = truth == "spiral"
    assert (labels.human_label[~disks] == "elliptical").all()  # P(disk | smooth) = 0
    found, error = fitted_theta(labels.alpha[disks], labels.human_label[disks] == "elliptical")
    assert error < 0.03 * theta
    assert abs(found - theta) < 4 * error


def test_votes_are_binomial_and_agree_with_the_label():
    truth, radius, seeing = mixed(2)
    labels = label(np.arange(N), truth, radius, seeing, LabelSettings(), 5)
    assert set(np.unique(labels.votes)) <= set(range(41))
    assert np.array_equal(labels.votes > 20, labels.human_label == "spiral")
    assert np.array_equal(labels.vote_fraction, labels.votes / 40)
    assert labels.certainty.min() >= 0.5
    certain = labels.certainty >= 0.9
    assert 0.3 < certain.mean() < 0.95
    # Where people are sure of features they are right; of smoothness, not always.
    assert (truth[certain & (labels.human_label == "spiral")] == "spiral").all()
    assert (truth[certain & (labels.human_label == "elliptical")] == "spiral").mean() > 0.02


def test_other_galaxies_have_votes_and_no_label_of_the_two():
    truth, radius, seeing = mixed(4, 4000)
    truth = np.where(np.arange(4000) % 3 == 0, "merger", truth)
    labels = label(np.arange(4000), truth, radius, seeing, LabelSettings(), 5)
    others = truth == "merger"
    seen = labels.votes > 20
    assert set(labels.human_label[others & seen]) == {""}
    assert set(labels.human_label[others & ~seen]) == {"elliptical"}
    assert set(labels.human_label[~others]) == {"elliptical", "spiral"}
    assert abs(seen[others].mean() - seen[truth == "spiral"].mean()) < 0.06


def test_votes_have_the_distribution_of_votes_given_their_majority():
    """Many people look at one kind of galaxy: against scipy's binomial, cut at the middle."""
    n, alpha = 200_000, 9.0
    radius = np.full(n, alpha / (2 * np.sqrt(2 * np.log(2))))
    labels = label(
        np.arange(n), np.full(n, "spiral"), radius, np.ones(n), LabelSettings(9.18, 10), 1
    )
    threshold = stats.norm.ppf(smooth_probability(np.array([alpha]), 9.18)[0])
    z = np.linspace(-6, 6, 24_001)
    weight, p = stats.norm.pdf(z), 1 / (1 + np.exp(-2.0 * (z - threshold)))
    votes = np.arange(11)
    pmf = stats.binom.pmf(votes[:, None], 10, p)
    side = (votes[:, None] > 5) == (z > threshold)
    given = np.where(side, pmf, 0) / np.where(side, pmf, 0).sum(axis=0)
    expected = (given * weight).sum(axis=1) / weight.sum()
    counts = np.bincount(labels.votes, minlength=11)
    assert stats.chisquare(counts, expected / expected.sum() * n).pvalue > 1e-3


def test_a_galaxy_is_labelled_alike_whoever_is_labelled_with_it():
    truth, radius, seeing = mixed(3, 500)
    every = label(np.arange(500), truth, radius, seeing, LabelSettings(), 5)
    some = np.array([400, 3, 77])
    few = label(some, truth[some], radius[some], seeing[some], LabelSettings(), 5)
    assert np.array_equal(few.votes, every.votes[some])
    assert np.array_equal(few.human_label, every.human_label[some])
    other = label(np.arange(500), truth, radius, seeing, LabelSettings(), 6)
    assert not np.array_equal(other.votes, every.votes)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("dipole", Dipole(0.2, 185.0, 30.0)),
        ("patch", Patch(REGION, 0.2)),
        ("clustered", Clustered(0.08, 2.0, 8)),
    ],
)
def test_an_injected_truth_is_found_again_in_the_labels(name, pattern):
    """Labels show it diluted by the disks that look smooth, which theta tells."""
    settings = replace(SimulationSettings(seed=6, irregulars=0, mergers=0), **{name: pattern})
    table = table_of(settings, 40_000)
    p = spiral_probability(table["ra"], table["dec"], settings.population)
    seen = 1 - smooth_probability(table["alpha"], 9.18)
    featured = (table["human_label"] == "spiral").astype(float)
    # Inverse-probability weights (Horvitz-Thompson) of the galaxies that are resolved at all.
    kept = seen > 0.2
    resolved = kept[table["truth"] == "spiral"].mean()
    fit = stats.linregress(p, np.where(kept, featured / seen, 0) / resolved)
    assert fit.slope > 4 * fit.stderr
    assert abs(fit.slope - 1) < 4 * fit.stderr
    classes = stats.linregress(p, (table["truth"] == "spiral").astype(float))
    assert abs(classes.slope - 1) < 4 * classes.stderr


@pytest.mark.parametrize("amplitude", [0.0, 0.15])
def test_an_isotropic_sky_and_a_dipole_are_read_from_labels_alone(amplitude):
    """Nothing is known but what a survey's table says: labels, resolution, positions."""
    dipole = Dipole(amplitude, 185.0, 30.0) if amplitude else None
    table = table_of(SimulationSettings(seed=9, dipole=dipole, irregulars=0, mergers=0), 30_000)
    disks = table["truth"] == "spiral"
    theta, error = fitted_theta(
        table["alpha"][disks].astype(float), table["human_label"][disks] == "elliptical"
    )
    assert abs(theta - 9.18) < 4 * error
    assert error < 0.3
    seen = 1 - smooth_probability(table["alpha"], theta)
    kept = seen > 0.2
    featured = np.where(kept & (table["human_label"] == "spiral"), 1 / np.maximum(seen, 0.2), 0)
    axes = np.column_stack([np.ones(len(kept)), unit_vectors(table["ra"], table["dec"])])
    found, *_ = np.linalg.lstsq(axes, featured, rcond=None)
    bread = np.linalg.inv(axes.T @ axes)
    residual = featured - axes @ found
    covariance = bread @ (axes.T * residual**2) @ axes @ bread  # White 1980
    resolved = kept[disks].mean()
    expected = resolved * np.array([0.49, *(amplitude * unit_vectors(185.0, 30.0)[0])])
    off = found - expected
    assert stats.chi2(4).sf(off @ np.linalg.solve(covariance, off)) > 1e-3
    vector = found[1:]
    significance = vector @ np.linalg.solve(covariance[1:, 1:], vector)
    assert (significance > 25) == bool(amplitude)


@pytest.mark.parametrize(
    "pattern", [Dipole(0.25, 185.0, 30.0), Patch(REGION, 0.3), Clustered(0.1, 2.0, 8)]
)
def test_conditions_imitate_morphology(pattern):
    """The truth is isotropic; people see fewer spirals where seeing is worse."""
    settings = SimulationSettings(seed=7, imitate=pattern, irregulars=0, mergers=0)
    table, even = table_of(settings, 40_000), table_of(replace(settings, imitate=None), 40_000)
    worse = table["seeing"] / even["seeing"] - 1
    assert np.array_equal(table["truth"], even["truth"])
    if isinstance(pattern, Dipole):
        cosine = unit_vectors(table["ra"], table["dec"]) @ unit_vectors(185.0, 30.0)[0]
        np.testing.assert_allclose(worse, 0.25 * cosine, atol=1e-12)
    elif isinstance(pattern, Patch):
        np.testing.assert_allclose(worse, 0.3 * REGION.contains(table["ra"], table["dec"]))
    slopes = {
        name: stats.linregress(worse, (table[name] == "spiral").astype(float))
        for name in ("truth", "human_label")
    }
    assert abs(slopes["truth"].slope) < 4 * slopes["truth"].stderr
    assert slopes["human_label"].slope < -5 * slopes["human_label"].stderr
    assert settings.record()["imitate"]["kind"] == type(pattern).__name__.lower()


@pytest.mark.parametrize("condition", ["background", "depth"])
def test_other_conditions_imitate_a_pattern_too(condition):
    settings = SimulationSettings(seed=7, imitate=Dipole(0.2, 185.0, 30.0), imitated=condition)
    table, even = table_of(settings, 3000), table_of(replace(settings, imitate=None), 3000)
    cosine = unit_vectors(table["ra"], table["dec"]) @ unit_vectors(185.0, 30.0)[0]
    sign = -1 if condition == "depth" else 1
    np.testing.assert_allclose(table[condition] - even[condition], 0.2 * sign * cosine, atol=1e-12)
    assert np.array_equal(table["seeing"], even["seeing"])
    assert np.array_equal(table["truth"], even["truth"])
    assert settings.record()["imitate"]["condition"] == condition
    assert "condition" not in replace(settings, imitated="seeing").record()["imitate"]
    with pytest.raises(InputError, match="expected seeing, background, depth"):
        replace(settings, imitated="moon")


@pytest.mark.parametrize(
    ("condition", "difference"), [("seeing", 0.4), ("background", 0.02), ("depth", -0.5)]
)
def test_in_a_training_region_a_condition_goes_with_the_class(condition, difference):
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(120, 240, 5000), rng.uniform(0, 60, 5000)
    spiral = rng.random(5000) < 0.5
    plain = conditions_at(ra, dec, "uneven", 3)
    region = TrainingRegion(REGION, condition, difference)
    biased = bias(plain, ra, dec, spiral, None, "seeing", region, 3)
    moved = getattr(biased, condition) - getattr(plain, condition)
    inside = REGION.contains(ra, dec)
    assert not moved[~inside].any()
    np.testing.assert_allclose(moved[inside & spiral], -difference / 2, atol=1e-12)
    np.testing.assert_allclose(moved[inside & ~spiral], difference / 2, atol=1e-12)
    answers = np.sign(-difference) * getattr(biased, condition)
    assert roc_auc_score(spiral[inside], answers[inside]) > 0.75
    assert abs(roc_auc_score(spiral[~inside], answers[~inside]) - 0.5) < 0.06
    for other in {"seeing", "background", "depth"} - {condition}:
        assert np.array_equal(getattr(biased, other), getattr(plain, other))


def test_the_truth_of_a_survey_is_in_its_record():
    settings = SimulationSettings(
        dipole=Dipole(0.01, 1, 2),
        clustered=Clustered(0.01),
        imitate=Patch(REGION, 0.1),
        training=TrainingRegion(REGION, "seeing", 0.1),
        labels=LabelSettings(theta=8.0),
    )
    record = settings.record()
    assert record["dipole"] == {"amplitude": 0.01, "ra": 1, "dec": 2}
    assert record["clustered"] == {"rms": 0.01, "slope": 1.2, "lmax": 64}
    assert record["imitate"]["region"]["ra_max"] == 200
    assert record["training"]["condition"] == "seeing"
    assert record["labels"] == {"theta": 8.0, "voters": 40}


@pytest.mark.parametrize(
    "make",
    [
        lambda: LabelSettings(theta=0),
        lambda: LabelSettings(voters=0),
        lambda: TrainingRegion(REGION, "airmass", 1),
        lambda: SimulationSettings(imitate=Dipole(0.95, 0, 0)),
        lambda: SimulationSettings(imitate=Dipole(float("nan"), 0, 0)),
        lambda: SimulationSettings(pixels="int8"),
        lambda: SimulationSettings(exposure=-1),
        lambda: SimulationSettings(neighbours=1e9),
        lambda: SimulationSettings(neighbours=float("nan")),
        lambda: SimulationSettings(galaxies=10**12),
        lambda: TrainingRegion(REGION, "seeing", 1000),
        lambda: TrainingRegion(REGION, "depth", -100),
        lambda: SimulationSettings(training=TrainingRegion(REGION, "seeing", 2)),
        lambda: SimulationSettings(training=TrainingRegion(NOWHERE, "seeing", 0.1)),
        lambda: SimulationSettings(patch=Patch(NOWHERE, 0.1)),
        lambda: SimulationSettings(imitate=Patch(NOWHERE, 0.1)),
        lambda: SimulationSettings(patch=Patch(REGION, float("nan"))),
        lambda: SimulationSettings(pixel_scale=5.0),
        lambda: SimulationSettings(spiral_fraction=0.1, dipole=Dipole(0.2, 0, 0)),
        lambda: Truth(clustered=Clustered(0.2)),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(InputError):
        make()
