"""Names of parts and beginnings of names in the configuration."""

import pytest

from facerec.core.errors import ConfigError
from facerec.training.part_names import check_entries, entry_for

NAMES = ["backbone.conv1.weight", "backbone.layer1.0.bn1.weight", "neck.fc.bias", "objective.head.centres.weight"]


@pytest.mark.parametrize(
    ("name", "entries", "expected"),
    [
        ("backbone.conv1.weight", ["backbone", "neck"], "backbone"),
        ("backbone.layer1.0.bn1.weight", ["backbone", "backbone.layer1", "backbone.layer1.1"], "backbone.layer1"),
        ("backbone.layer10.0.weight", ["backbone.layer1"], None),
        ("backbone.conv1.weight", ["back", "conv1"], None),
        ("backbone.conv1.weight", ["backbone.conv1.weight"], "backbone.conv1.weight"),
        ("objective.head.centres.weight", ["head"], "head"),
        ("objective.head.learned_scale", ["head", "head.learned_scale"], "head.learned_scale"),
        ("objective.terms.mhe.w", ["head", "loss"], "loss"),
        ("objective.heads", ["head"], None),
    ],
)
def test_longest_beginning_up_to_a_dot_counts(name, entries, expected):
    assert entry_for(name, entries) == expected


def test_entries_that_begin_a_name_pass_and_so_does_an_absent_part_at_its_default():
    check_entries({"backbone.layer1": 1, "head": 2, "neck.fc": None, "loss": 0}, NAMES, section="s", default=0)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"bakbone": 2}, r"^freeze\.epochs\.bakbone: no parameter .* did you mean backbone\?"),
        ({"backbone.layr1": None}, r"did you mean backbone\.layer1\?"),
        ({"backbone.layer4": 0}, r"freeze\.epochs\.backbone\.layer4"),  # at its default, but a name and no part
        ({"layer1": 1}, r"freeze\.epochs\.layer1: no parameter"),
        ({"loss": 1}, r"the parts are backbone, neck, head\."),
        ({"": 1}, "no parameter"),
    ],
)
def test_entry_that_names_nothing_is_refused_with_the_nearest_name(entries, says):
    with pytest.raises(ConfigError, match=says):
        check_entries(entries, NAMES, section="freeze.epochs", default=0)
