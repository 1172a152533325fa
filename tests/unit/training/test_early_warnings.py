"""Warnings before the first step: each on a case where it is right, and none on the recipes that are known to work."""

import math
import re

import pytest

from facerec.training.early_warnings import above_untrained, few_steps, mostly_single_images, unusual_lr


def test_few_steps_are_warned_of_with_the_epochs_that_make_enough():
    line = few_steps(num_steps=12, num_images=170, batch_size=64, starts_at_means=False)
    assert line is not None and line.startswith("12 optimizer steps are too few to learn from: trainer.num_epochs=113 ")
    assert math.ceil(300 * 64 / 170) == 113 and "makes 300; a smaller data.global_batch_size" in line
    assert few_steps(num_steps=1, num_images=9, batch_size=9, starts_at_means=False).startswith("1 optimizer step is")
    assert few_steps(num_steps=300, num_images=170, batch_size=64, starts_at_means=False) is None


def test_centres_that_start_at_means_need_fewer_steps():
    assert few_steps(num_steps=100, num_images=170, batch_size=64, starts_at_means=True) is None
    assert "makes 100;" in str(few_steps(num_steps=99, num_images=100, batch_size=1, starts_at_means=True))


def test_a_majority_of_people_with_one_image_is_warned_of():
    line = mostly_single_images(num_single=51, num_identities=100, starts_trained=False)
    assert line is not None and line.startswith("51 of 100 identities have one image") and "init_from=" in line
    assert "init_from=" not in str(mostly_single_images(num_single=51, num_identities=100, starts_trained=True))
    assert mostly_single_images(num_single=50, num_identities=100, starts_trained=False) is None


@pytest.mark.parametrize(
    ("lr", "batch_size", "exponent", "says"),
    [
        (
            0.1,
            128,
            1.0,
            "lr=0.1 is 8 times above the usual rate for data.global_batch_size=128: .* optimizer.lr=0.0125 in ",
        ),
        (0.1, 256, 1.0, "is 4 times above"),
        (0.1, 257, 1.0, None),
        (0.02, 128, 1.0, None),  # the published recipe for this batch
        (0.6, 8192, 1.0, None),  # the same
        (0.01, 1024, 1.0, "is 10 times below .* the recipe has 0.1 for 1024, which makes optimizer.lr=0.1 "),
        (0.1, 65, 0.5, None),
        (0.1, 64, 0.5, "is 4 times above .* optimizer.lr=0.025 with the square root of the batch"),
        (0.0, 1024, 1.0, None),
    ],
)
def test_a_rate_far_from_the_recipes_for_this_batch_is_warned_of(lr, batch_size, exponent, says):
    line = unusual_lr(lr=lr, batch_size=batch_size, usual_lr=0.1, usual_batch_size=1024, exponent=exponent)
    if says is None:
        assert line is None
    else:
        assert line is not None
        assert re.search(says, line), line


def test_a_loss_above_that_of_an_untrained_network_is_warned_of():
    line = above_untrained(loss=46.2, untrained=44.1, first_step=201, last_step=300)
    assert line is not None and line.startswith(
        "steps 201 to 300: the mean loss is 46.20, but an untrained network has"
    )
    assert above_untrained(loss=44.1, untrained=44.1, first_step=201, last_step=300) is None
    assert above_untrained(loss=math.nan, untrained=44.1, first_step=201, last_step=300) is None
