"""A sky in words."""

import pytest

from catalogs.errors import InputError
from catalogs.sky import Region
from catalogs.synthetic import words
from catalogs.synthetic.biases import TrainingRegion
from catalogs.synthetic.conditions import ObservationSettings
from catalogs.synthetic.truth import Clustered, Dipole, Patch


def test_words_are_read():
    region = Region(350, 10, -5, 20)
    assert words.read_dipole("0.02, 185,-30.5") == Dipole(0.02, 185, -30.5)
    assert words.read_patch("350..10,-5..20:-0.05") == Patch(region, -0.05)
    assert words.read_clustered("0.01") == Clustered(0.01)
    assert words.read_clustered("0.01,2,16") == Clustered(0.01, 2, 16)
    assert words.read_pattern("patch:350..10,-5..20:.1") == Patch(region, 0.1)
    assert words.read_pattern("dipole:.1,2,3") == Dipole(0.1, 2, 3)
    assert words.read_pattern("clustered:.05") == Clustered(0.05)
    found = words.read_training("350..10,-5..20:seeing:0.4")
    assert found == TrainingRegion(region, "seeing", 0.4)


@pytest.mark.parametrize(
    ("reading", "text"),
    [
        (words.read_dipole, "0.02,185"),
        (words.read_dipole, "0.02,nan,3"),
        (words.read_dipole, "0.02,400,3"),
        (words.read_patch, "180..200,0..20"),
        (words.read_patch, "180..200,0..20:much"),
        (words.read_clustered, "0.01,1.2,6.5"),
        (words.read_clustered, ""),
        (words.read_pattern, "0.02,185,30"),
        (words.read_training, "180..200,0..20:seeing"),
        (words.read_training, "180..200,0..20:airmass:1"),
    ],
)
def test_other_words_are_refused_in_one_line(reading, text):
    with pytest.raises(InputError) as refused:
        reading(text)
    assert text.rpartition(":")[2] in str(refused.value) or "condition" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_conditions_are_a_name_or_a_file(tmp_path):
    file = tmp_path / "night.toml"
    assert words.read_conditions("survey") == "survey"
    file.write_text("seeing = 1.7\ndrift-scan = true\n")
    assert words.read_conditions(str(file)) == ObservationSettings(seeing=1.7, drift_scan=True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("fog = 1\nrain = 2\n", "'fog', 'rain'; 'conditions' knows .*moffat-beta"),
        ('seeing = "bad"\n', "seeing = 'bad': expected a number"),
        ("seeing = true\n", "seeing = True: expected a number"),
        ("drift_scan = 1\n", "drift_scan = 1: expected true or false"),
        ("seeing = 50\n", "seeing 50: expected"),
        ("background = nan\n", "background nan: expected"),
        (
            'fog = 1\nsky = "dark"\nseeing = 50\ndepth = 5\n',
            "'fog'.*sky = 'dark'.*seeing 50.*depth 5: expected",  # all at once
        ),
    ],
)
def test_conditions_that_cannot_be_are_refused(tmp_path, content, said):
    file = tmp_path / "night.toml"
    file.write_text(content)
    with pytest.raises(InputError, match=said):
        words.read_conditions(str(file))
