"""What is said before the first step: the length, and the warnings; none for the recipes that are known to work."""

import logging
import re

import numpy as np
import pytest

import facerec.training.optimizer
from facerec.cli.config.compose import compose
from facerec.cli.verbs.before_training import log_length, lr_warning, warn_of_settings

RECIPES = {  # experiment: its identities, its images
    "demo": (400, 10_000),
    "finetune": (250, 5_513),
    "celeba_wild_ir18s_arcface": (299, 6_264),
    "casia_r50_arcface": (10_572, 490_623),
    "ms1mv3_r100_arcface": (93_431, 5_179_510),
    "ms1mv3_r50_arcface_onegpu": (93_431, 5_179_510),
}


class People:
    """A set of which only the labels are known."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)


def config_of(*overrides: str):
    return compose("train", overrides)


@pytest.mark.parametrize("experiment", RECIPES)
def test_recipes_trigger_no_warning(experiment: str, caplog) -> None:
    num_identities, num_images = RECIPES[experiment]
    overrides = [f"experiment={experiment}", "seed=2", "head.scale=48"]
    if experiment != "demo":
        overrides.append("data.root=faces")
    config = config_of(*overrides)
    with caplog.at_level(logging.INFO, logger="facerec"):
        log_length(config, People(np.arange(num_images) % num_identities))  # type: ignore[arg-type]
        warn_of_settings(config, overrides, [])
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().endswith(f"epochs; none of {num_identities} identities have one image")


def test_a_small_set_of_single_photos_gets_both_warnings_after_its_length(caplog) -> None:
    config = config_of("experiment=finetune", "data.root=faces", "head.init=random")
    labels = np.concatenate([np.arange(60), np.repeat(np.arange(60, 80), 5)])
    with caplog.at_level(logging.INFO, logger="facerec"):
        log_length(config, People(labels))  # type: ignore[arg-type]
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "12 optimizer steps of 64 images, 4.8 epochs; 60 of 80 identities have one image"
    assert lines[1].startswith("12 optimizer steps are too few to learn from: trainer.num_epochs=120 makes 300;")
    assert lines[2].startswith("60 of 80 identities have one image: from these, a margin softmax learns")
    assert [record.levelno for record in caplog.records[1:]] == [logging.WARNING] * 2


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["experiment=casia_r50_arcface", "data.root=x", "data.global_batch_size=64"], "0.1 is 8 times above"),
        (["experiment=casia_r50_arcface", "data.root=x", "data.global_batch_size=64", "optimizer.lr=0.0125"], None),
        (["experiment=casia_r50_arcface", "data.root=x", "data.global_batch_size=256"], None),
        (["experiment=casia_r50_arcface", "data.root=x", "optimizer.lr=0.02"], "0.02 is 5 times below"),
        (["experiment=casia_r50_arcface", "data.root=x", "optimizer=adamw"], None),  # its own rate
        (["optimizer=adamw", "optimizer.lr=0.01"], "the recipe has 0.001 for 64, which makes optimizer.lr=0.001 "),
        (["optimizer=adamw", "data.global_batch_size=512"], None),  # a factor of 8 is 2.8 by the square root
        (["data.global_batch_size=512"], "0.1 is 8 times below .* optimizer.lr=0.8 in proportion to the batch"),
    ],
)
def test_rate_is_compared_with_the_experiments_or_the_defaults(overrides: list[str], says: str | None, caplog) -> None:
    config = config_of(*overrides)
    before = config.copy()
    warn_of_settings(config, overrides, [])
    assert config == before  # said, never changed
    if says is None:
        assert caplog.text == ""
    else:
        (record,) = caplog.records
        assert re.search(says, record.getMessage()), record.getMessage()


def test_an_optimizer_that_names_no_rule_is_not_judged(monkeypatch) -> None:
    overrides = ["optimizer.lr=9"]
    config = config_of(*overrides)
    assert "optimizer.lr=9 is 90 times above" in str(lr_warning(config, overrides))
    monkeypatch.delattr(facerec.training.optimizer.SGD, "lr_batch_exponent")
    assert lr_warning(config, overrides) is None
