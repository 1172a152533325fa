"""Of the two lengths of a training, the one that is given later counts."""

import pytest

from facerec.cli.config.compose import compose


@pytest.mark.parametrize(
    ("overrides", "length"),
    [
        ([], (20, None)),
        (["trainer.num_steps=30"], (None, 30)),
        (["trainer.num_epochs=null", "trainer.num_steps=30"], (None, 30)),
        (["trainer.num_epochs=3"], (3, None)),
        (["debug=one_step"], (None, 1)),
        (["debug=one_step", "trainer.num_epochs=3"], (3, None)),
        (["experiment=demo", "trainer.num_steps=30"], (None, 30)),
        (["experiment=casia_r50_arcface", "data.root=x"], (None, 32000)),
        (["experiment=casia_r50_arcface", "data.root=x", "trainer.num_epochs=3"], (3, None)),
        (["trainer.num_epochs=3", "trainer.num_steps=30"], (3, 30)),  # refused later
        (["trainer.num_epochs=null"], (None, None)),
    ],
)
def test_later_of_the_two_lengths_counts(overrides, length):
    config = compose("train", overrides)
    assert (config.trainer.num_epochs, config.trainer.num_steps) == length
    assert compose("bench", overrides).trainer.num_steps == length[1]


def test_experiment_of_ones_own_gives_steps_alone(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\ntrainer:\n  num_steps: 7\n")
    config = compose("train", ["experiment=mine"], tmp_path)
    assert (config.trainer.num_epochs, config.trainer.num_steps) == (None, 7)
