"""Help about a group, an option, a section or a key shows the comments and the defaults that a run would have."""

import re
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from facerec.cli.commands import command
from facerec.cli.config.compose import compose
from facerec.cli.config.config_files import config_directory, group_options
from facerec.cli.config.file_composition import compose_files
from facerec.cli.config.help import verb_help
from facerec.cli.config.key_help import help_about
from facerec.cli.verb_list import VERBS
from facerec.core.errors import ConfigError

CONFIGS = [config_directory()]
OWN_KEYS_OF_ADAFACE = ["beyond_pi", "m", "h", "momentum", "gradient", "scale", "learn_scale"]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch) -> None:
    """Lines break at the same places in every environment."""
    monkeypatch.setenv("COLUMNS", "120")


def shown(text: str) -> dict[str, str]:
    """Returns the names and the values in the tables of a help text: two columns, at least two blanks apart."""
    rows = re.findall(r"^  ([a-z_][\w.]*)(?:  +(\S.*?)(?:  +.*)?)?$", text, re.MULTILINE)
    return {name: value for name, value in rows}


def assert_shown_as_composed(text: str, config: DictConfig) -> int:
    compared = 0
    for name, value in shown(text).items():
        if OmegaConf.select(config, name, default="absent") == "absent" or value == "":
            continue
        composed: Any = OmegaConf.select(config, name)
        composed = OmegaConf.to_container(composed) if OmegaConf.is_config(composed) else composed
        if not isinstance(composed, dict) and name != "augment.transforms":
            assert yaml.safe_load(value) == composed, f"{name}: {value}"
            compared += 1
    return compared


@pytest.mark.parametrize("group", ["head", "schedule", "optimizer"])
def test_defaults_of_every_option_are_those_that_are_composed(group):
    for option in group_options(group, CONFIGS):
        config = compose("train", [f"{group}={option}"])
        assert assert_shown_as_composed(help_about("train", [f"{group}={option}"]), config) >= 3


def test_defaults_of_groups_and_sections_are_those_that_are_composed():
    config = compose("train", [])
    composition = compose_files("train", CONFIGS)
    sections = [name for name, key in composition.keys.items() if key.value is None]
    assert {"trainer", "data", "checkpoint", "freeze", "launch"} <= set(sections)
    texts = [help_about("train", [name]) for name in sections]
    assert sum(assert_shown_as_composed(text, config) for text in texts) > 80
    for text, name in zip(texts, sections, strict=True):
        leaves = [key for key, item in composition.keys[name].keys.items() if item.value is not None and key[0] != "_"]
        assert {f"{name}.{key}" for key in leaves} <= set(shown(text)), name


@pytest.mark.parametrize("verb", VERBS)
def test_defaults_in_the_help_of_a_verb_are_those_that_are_composed(verb):
    config = compose(verb, [], allow_missing=True)
    assert assert_shown_as_composed(verb_help(verb), config) >= 1


def test_help_of_train_begins_with_the_keys_that_people_change_first():
    text = verb_help("train")
    first = text.partition("change first, with the defaults:\n")[2].partition("\n\n")[0]
    assert list(shown(first)) == list(VERBS["train"].first_keys)
    assert (shown(first)["head"], shown(first)["optimizer.lr"], shown(first)["experiment"]) == (
        "arcface",
        "0.1",
        "null",
    )
    composition = compose_files("train", CONFIGS)
    assert all(name in composition.choices or composition.find(name) for name in VERBS["train"].first_keys)
    assert command("train", "head=adaface", options=["--help"]) in text  # long where `facerec` is not in the PATH
    assert "there are input, head, augment, " in " ".join(text.split())


def test_group_lists_its_options_with_the_default_and_their_purpose():
    text = help_about("train", ["schedule"])
    assert text.startswith("schedule: how the learning rate changes over the run\n")
    assert re.search(r"^  cosine +Linear warm-up, then half a cosine to final_factor\.$", text, re.MULTILINE)
    assert re.search(r"^  polynomial \* +Linear warm-up", text, re.MULTILINE)
    assert "Keys of schedule=polynomial, with their defaults:\n" in text
    assert "In Python: facerec.training.schedule.Polynomial" in text


def test_option_lists_its_own_keys_first_and_then_those_of_every_option():
    text = help_about("train", ["head=adaface"])
    own, every = text.split("Keys of every option of head")
    assert list(shown(own)) == [f"head.{key}" for key in OWN_KEYS_OF_ADAFACE]
    assert "head.num_classes" in shown(every) and "follows neck.embedding_dim" in every


def test_key_shows_its_line_by_its_full_name_or_its_last_part():
    line = "  trainer.num_steps  null  length of the run in steps; a step is one update of the optimizer"
    for word in ("trainer.num_steps", "num_steps", "trainer.num_steps=5"):
        assert help_about("train", [word]).splitlines()[0] == line
    everywhere = shown(help_about("train", ["every_steps"]))
    assert set(everywhere) == {"logging.every_steps", "checkpoint.every_steps", "eval.every_steps"}


def test_words_of_other_programs_and_names_of_options_are_answered():
    assert help_about("train", ["epochs"]).startswith("epochs is called trainer.num_epochs here.\n")
    assert help_about("train", ["adaface"]) == help_about("train", ["head=adaface"])
    assert help_about("train", ["r50"]) == help_about("train", ["backbone=iresnet50"])
    assert help_about("train", ["milestones_steps"]).startswith("milestones_steps is a key of schedule=step.\n")


def test_recipe_shows_its_header_its_choices_and_its_values():
    text = help_about("train", ["experiment=finetune"])
    assert "facerec train experiment=finetune data.root=/data/faces" in text
    assert "It chooses: data=on_disk augment=small_set backbone=iresnet18 schedule=cosine\n" in text
    assert shown(text)["optimizer.lr_factors.backbone"] == "0.1"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("trianer", "trianer: facerec train has no group, option, section or key of this name; the nearest: trainer."),
        ("trainer.num_step", "the nearest: trainer.num_steps"),
        ("optimzer.lr", "the nearest: optimizer.lr"),
        ("head=sphreface", "head=sphreface: no such option; did you mean sphereface? head takes: a_softmax, "),
        ("zzz", "zzz: facerec train has no group, option, section or key of this name. All names: "),
    ],
)
def test_unknown_word_is_refused_with_the_nearest_names(word, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        help_about("train", [word])


def test_options_and_experiments_of_ones_own_appear(tmp_path):
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "mine.yaml").write_text(
        "# A margin of mine.\ndefaults: [_scaled, _self_]\n_target_: mylab.Mine\nq: 0.25 # how much\n"
    )
    own = {"config_dir": str(tmp_path)}
    assert re.search(r"^  mine +A margin of mine\.$", help_about("train", ["head"], **own), re.MULTILINE)
    text = help_about("train", ["head=mine"], **own)
    assert re.search(r"^  head\.q +0\.25 +how much$", text, re.MULTILINE) and "In Python: mylab.Mine" in text
    assert_shown_as_composed(text, compose("train", ["head=mine"], tmp_path))
    assert re.search(r"\bmine\b", verb_help("train", **own))
    for printed in (help_about("train", ["head", "seed", "num_steps"], **own), verb_help("train", **own)):
        commands = [line for line in printed.splitlines() if " --help " in line and "NAME" not in line]
        assert commands and all(f" --help --config-dir {tmp_path} " in line for line in commands)
    with pytest.raises(ConfigError, match="no such option"):
        help_about("train", ["head=mine"])


def test_option_of_ones_own_names_the_keys_that_it_can_inherit(tmp_path):
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "mine.yaml").write_text("# Mine.\n_target_: mylab.Mine\nscale: 16.0\n")
    text = help_about("train", ["head=mine"], config_dir=str(tmp_path))
    assert "It inherits those of these keys that its constructor takes: beyond_pi, gradient, learn_scale.\n" in text
    assert text.endswith(command("train", "head=mine", options=["--cfg", "job"], config_dir=str(tmp_path)))
    assert "It inherits" not in help_about("train", ["head=adaface"], config_dir=str(tmp_path))


def test_columns_fit_the_terminal(monkeypatch):
    for columns in (72, 100, 300):
        monkeypatch.setenv("COLUMNS", str(columns))
        text = help_about("train", ["trainer", "data", "head", "head=adaface", "experiment"])
        assert max(len(line) for line in text.splitlines() if "--help" not in line) <= min(columns, 120)
