"""`--cfg job`: YAML with comments that composes to the same values."""

import hydra
import pytest
import yaml
from omegaconf import OmegaConf

from facerec.cli.config.commented_yaml import commented_yaml
from facerec.cli.config.compose import compose

LONG = "a " * 60 + "# b: c"
CASES = {
    "defaults": ("train", []),
    "other options": ("train", ["head=adaface", "backbone=vit_s", "optimizer=adamw", "loss=[intra,inter]"]),
    "experiment": ("train", ["experiment=casia_r50_arcface", "+experiment/table2=triplet_m035", "data.root=/a"]),
    "debug": ("train", ["debug=overfit", "augment=surveillance", "~experiment"]),
    "text with signs": ("train", [f"run_dir='{LONG}'", "init_from='a # b: [c]'", "eval.sets=['a#b.bin','c: d']"]),
    "lists": ("train", ["eval.sets=[]", "+backbone.model_arguments={a: [1, 2]}", "schedule=step"]),
    "benchmarks": ("train", ["eval/benchmarks=[verification]", "eval.benchmarks.verification.path=/a.bin"]),
    "another verb": ("align", ["out=/a"]),
    "included verb": ("bench", ["suite=plan"]),
    "missing values": ("evaluate", []),
}


@pytest.mark.parametrize(("verb", "overrides"), CASES.values(), ids=CASES.keys())
def test_text_composes_to_the_values_that_it_shows(verb, overrides, tmp_path):
    config = compose(verb, overrides, allow_missing=True)
    text = commented_yaml(config, verb, overrides)
    expected = OmegaConf.to_container(config)
    assert OmegaConf.to_container(OmegaConf.create(text)) == expected
    (tmp_path / "shown.yaml").write_text(text)
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert OmegaConf.to_container(hydra.compose("shown")) == expected


def test_comments_are_those_of_the_options_that_were_chosen():
    overrides = ["experiment=demo", "head=adaface", "loss=[intra]", "debug=overfit"]
    lines = commented_yaml(compose("train", overrides), "train", overrides).splitlines()
    assert lines[0] == "# Trains a network, or resumes the run in the run directory."
    assert lines[1].startswith("# experiment=demo: The demo: a quarter-width IResNet-18 on the synthetic faces")
    assert lines[2].startswith("# debug=overfit: Trains on one batch")
    head = lines.index("head: # the margin softmax; these keys are those of every head")
    assert lines[head - 1].startswith("# head=adaface: AdaFace: cos(θ ")
    assert "  h: 0.333 # range of norms over which the margin changes, in standard deviations of the norm" in lines
    assert "  every_epochs: null # an epoch is one step here" in lines  # the value is debug's, and so is the comment
    assert lines[lines.index("loss:") - 1].startswith("# loss=intra: Intra: the mean angle")
    assert "    weight: 1.0 # factor on this term" in lines


def test_every_value_of_a_file_has_its_comment():
    text = commented_yaml(compose("train", []), "train", [])
    without = [line for line in text.splitlines() if " # " not in line and not line.startswith("#") and ": " in line]
    follow = ("_target_", "embedding_dim: 512", "seed: 1", "root: null", "height_px: 112", "width_px: 112", "p: 0.5")
    assert [line for line in without if not line.strip().startswith(follow)] == []


def test_inherited_keys_of_ones_own_options_have_the_comments_of_their_group(tmp_path):
    for name, text in {
        "head/mine": "# Mine.\n_target_: facerec.heads.adaface.AdaFaceHead\nm: 0.3 # my margin\n",
        "loss/near": "near:\n  _target_: facerec.losses.angular_terms.Intra\n",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.yaml").write_text(text)
    overrides = ["head=mine", "loss=[near]"]
    config = compose("train", overrides, tmp_path)
    text = commented_yaml(config, "train", overrides, tmp_path)
    assert OmegaConf.create(text) == config
    for line in ("m: 0.3 # my margin", "learn_scale: false # true: train s", "weight: 1.0 # "):
        assert f"  {line}" in text


def test_lines_above_a_key_and_comments_of_long_text_stand_above_it():
    overrides = ["data.root=/a"]
    lines = commented_yaml(compose("pack", overrides, allow_missing=True), "pack", overrides).splitlines()
    assert lines[lines.index("  root: /a") - 2].startswith("  # a folder with one folder of crops per identity")
    long = [f"run_dir='{LONG}'"]
    text = commented_yaml(compose("train", long), "train", long)
    assert (
        "\n# the run's folder; null: runs/<group>/<name>; run_dir=runs/a alone goes on with the run in it\nrun_dir: "
        in text
    )
    assert yaml.safe_load(text)["run_dir"] == LONG
