"""Overrides with several values: what stands for them in the trials of a grid."""

import pytest

from facerec.cli.config.sweeps import choices_of
from facerec.sweeping.trials import expand

pytestmark = pytest.mark.usefixtures("configs")


def test_sweeps_expand_to_every_combination_in_order():
    assert expand(choices_of(["head.m2=0.3,0.4", "experiment=base", "seed=range(1,3)", "init_from='a,b'"])) == [
        ["head.m2=0.3", "experiment=base", "seed=1", "init_from='a,b'"],
        ["head.m2=0.3", "experiment=base", "seed=2", "init_from='a,b'"],
        ["head.m2=0.4", "experiment=base", "seed=1", "init_from='a,b'"],
        ["head.m2=0.4", "experiment=base", "seed=2", "init_from='a,b'"],
    ]
    assert expand(choices_of(["seed=1"])) == [["seed=1"]]


def test_glob_chooses_among_the_options_of_a_group():
    assert expand(choices_of(["+experiment/table2=glob(*)"])) == [
        ["+experiment/table2=row1"],
        ["+experiment/table2=row2"],
    ]
    assert expand(choices_of(["head=glob(c*)"])) == [["head=cm1"], ["head=cosface"]]
