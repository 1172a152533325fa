"""What a word that does not exist was meant to be: a name of another program, the last part of a key, an option."""

import re

import pytest

from facerec.cli.config.commented import walk
from facerec.cli.config.compose import compose
from facerec.cli.config.config_files import config_directory, group_options
from facerec.cli.config.file_composition import compose_files
from facerec.cli.config.suggestions import options_with_key
from facerec.cli.config.synonyms import KEYS, OPTIONS
from facerec.cli.verb_list import VERBS
from facerec.core.errors import ConfigError

CONFIGS = [config_directory()]


def refusal(verb: str, override: str) -> str:
    with pytest.raises(ConfigError) as refused:
        compose(verb, [override], allow_missing=True)
    return str(refused.value)


# what was typed; what is suggested
MEANT = {
    "optimizer.learning_rate=0.1": "optimizer.lr",
    "lr=0.1": "optimizer.lr",
    "learning-rate=0.1": "optimizer.lr",
    "batch_size=16": "data.global_batch_size",
    "global_batch_size=16": "data.global_batch_size",
    "epochs=3": "trainer.num_epochs",
    "num_epochs=3": "trainer.num_epochs",
    "steps=3": "trainer.num_steps",
    "workers=2": "loader.num_workers",
    "num_workers=2": "loader.num_workers",
    "gpus=2": "launch.gpus",
    "processes=2": "launch.processes",
    "num_threads=2": "trainer.num_threads",
    "weights=a.pt": "init_from",
    "pretrained=a.pt": "init_from",
    "margin=0.3": "head.m2 or head.m3",
    "s=64": "head.scale",
    "output_dir=runs/a": "run_dir",
    "exp_name=a": "name",
    "resume_path=runs/a": "resume_from",
    "out=runs/a": "run_dir",
    "dataset=/data/faces": "data.root",
    "dataset=casia": "data=casia or data.root",
    "amp=true": "trainer.precision=bf16 or trainer.precision=fp16",
    "momentum=0.9": "optimizer.momentum",
    "weight_decay=0.1": "optimizer.weight_decay",
    "backbone.dropout=0.4": "neck.dropout",
    "network=r50": "backbone=iresnet50",
    "model=mbf": "backbone=mobilefacenet",
    "embedding_size=256": "neck.embedding_dim",
    "config.margin_list=[1.0,0.5,0.0]": "head.m1, head.m2 or head.m3",
    "config.sample_rate=0.1": "head.sample_rate",
    "config.interclass_filtering_threshold=0.4": "head.inter_class_filter=zero or head.filter_threshold",
    "config.fp16=true": "trainer.precision=fp16",
    "config.warmup_epoch=1": "schedule.warmup_epochs",
    "config.verbose=2000": "eval.every_steps",
    "backbone=resnet50": "iresnet50",
    "backbone=r50": "iresnet50",
    "backbone=ResNet-101": "iresnet100",
    "optimizer=adam": "adamw",
    "schedule=cosine_annealing": "cosine",
    "schedule=MultiStepLR": "step",
    "data=folder": "on_disk",
    "data=imagefolder": "on_disk",
    "head=ArcFace": "arcface",
    "loss=arcface": "head=arcface",
    "head=iresnet50": "backbone=iresnet50",
}


@pytest.mark.parametrize(("override", "meant"), MEANT.items())
def test_name_of_another_program_is_answered_with_facerecs(override, meant):
    assert f"; did you mean {meant}?" in refusal("train", override)


def test_key_of_another_option_is_answered_with_the_option():
    for override in ("schedule.milestones_steps=[1]", "milestones_steps=[1]"):
        assert "no such key; it is a key of schedule=step. " in refusal("train", override)
    assert "; it is a key of head=adaface. " in refusal("train", "head.h=0.3")
    assert "; it is a key of loss=[triplet]. " in refusal("train", "loss.triplet.margin_rad=0.3")
    assert re.search(
        r"; data\.expect\.num_images is a key of (data=\w+, )+data=\w+ and others\.",
        refusal("train", "config.num_image=3"),
    )


def test_same_word_means_another_key_of_another_verb():
    assert "did you mean model?" in refusal("evaluate", "checkpoint=a.pt")
    assert "did you mean out?" in refusal("evaluate", "output=a.json")
    assert compose("evaluate", ["batch_size=8"], allow_missing=True).batch_size == 8


def test_section_whose_name_means_something_else_elsewhere_says_so():
    assert refusal("train", "checkpoint=a.pt").endswith("or did you mean init_from or resume_from?")


def test_nothing_is_suggested_for_a_word_like_no_other():
    assert refusal("train", "zzz=1") == "zzz: no such key. See facerec train --help"


def test_every_key_in_the_table_exists():
    keys = {name for verb in VERBS for name, _ in walk(compose_files(verb, CONFIGS).keys)}
    groups = set(compose_files("train", CONFIGS).choices)
    for word, meant in KEYS.items():
        for name, _, value in (one.partition("=") for one in meant):
            if name in groups:
                assert not value or value in group_options(name, CONFIGS), f"{word}: {name}={value}"
            else:
                assert name in keys or options_with_key(name, "train", CONFIGS), f"{word}: {name}"
        assert word not in compose_files("train", CONFIGS).keys or word == "checkpoint", f"{word} is a key of train"


def test_values_in_the_table_are_accepted():
    for meant in KEYS.values():
        for one in meant:
            if "=" in one:
                compose("train", [one])
    assert KEYS["fp16"] == ("trainer.precision=fp16",)


def test_every_option_in_the_table_exists_and_hides_none():
    for group, table in OPTIONS.items():
        options = group_options(group, CONFIGS)
        assert set(table.values()) <= set(options), group
        assert not set(table) & set(options), group
