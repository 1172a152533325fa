"""Which overrides belong to a result."""

import pytest

from facerec.runs.comparison import changes_result, setting_of


@pytest.mark.parametrize("key", ["head.m2", "head", "seed", "data.roots", "evaluation", "trainer.num_epochs", "data"])
def test_keys_that_change_the_result(key):
    assert changes_result(key)


@pytest.mark.parametrize(
    "key", ["eval", "eval.sets", "eval/deep", "data.root", "loader.num_workers", "run_dir", "data.source.width_px"]
)
def test_keys_that_do_not(key):
    assert not changes_result(key)


def test_setting_of_overrides():
    overrides = ["+experiment/table2=row", "head.m2=0.3", "eval.sets=[a=b]", "+x=a=b", "~augment", "head.m2=0.4"]
    assert setting_of(overrides) == {"experiment": "table2/row", "head.m2": "0.4", "x": "a=b", "augment": ""}
