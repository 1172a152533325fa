"""Composing a verb's configuration, and Hydra's traps taken from the user."""

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from facerec.cli.config.compose import compose, config_directory
from facerec.core.errors import ConfigError

pytestmark = pytest.mark.usefixtures("configs")


def test_shipped_configuration_is_found(monkeypatch):
    monkeypatch.undo()
    assert (config_directory() / "head" / "arcface.yaml").is_file()


def test_composes_groups_experiments_and_values_resolved():
    config = compose("train", ["experiment=base", "head.m3=0.4", "seed=7"])
    assert OmegaConf.to_container(config, resolve=False) == {
        "head": {
            "_target_": "facerec.heads.combined.MarginHead",
            "num_classes": None,
            "m2": 0.0,
            "m3": 0.4,
            "seed": 7,
        },
        "seed": 7,
        "run_dir": None,
        "init_from": None,
        "trainer": {"num_epochs": 5},
        "loader": {"num_workers": 1},
    }


@pytest.mark.parametrize("override", ["experiment=table2/row1", "+experiment/table2=row1"])
def test_experiments_may_lie_in_folders(override):
    config = compose("train", [override])
    assert (config.head.m2, config.head.m3, config.trainer.num_epochs) == (0.3, 0.2, 7)


def test_leaves_no_hydra_state_behind():
    compose("train", [])
    assert not GlobalHydra.instance().is_initialized()
    with pytest.raises(ConfigError):
        compose("train", ["sed=1"])
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("override", "path"),
    [("init_from=~/a b", "a b"), ("init_from='~/a,b'", "a,b"), ('init_from="~/epoch=3.pt"', "epoch=3.pt")],
)
def test_tilde_is_the_home_directory(override, path, tmp_path):
    assert compose("train", [override]).init_from == str(tmp_path / "home" / path)


def test_tilde_is_expanded_in_lists_and_in_files(configs, tmp_path):
    with (configs / "train.yaml").open("a") as file:
        file.write("sets: null\ncache: ~/cache\n")
    config = compose("train", ["sets=[~/a.bin,/b.bin]"])
    assert list(config.sets) == [str(tmp_path / "home" / "a.bin"), "/b.bin"]
    assert config.cache == str(tmp_path / "home" / "cache")


# what was given; what the message must say, in this order
REFUSED = {
    "unknown option": ("experiment=typo", ["experiment=typo: no such option", "base, table2/row1, table2/row2"]),
    "option, nearest": ("head=arcfac", ["head=arcfac: no such option; did you mean arcface?", "cosface"]),
    "no option": ("head=null", ["head=null: no such option"]),
    "number for an option": ("head=5", ["head=5: no such option"]),
    "unknown key": ("sed=1", ["sed: no such key; did you mean seed?", "facerec train --help"]),
    "unknown nested key": ("head.m3x=1", ["head.m3x: no such key; did you mean head.m3?"]),
    "unknown group": ("heads=arcface", ["heads: no such key; did you mean head?"]),
    "unknown key in a mapping": ("trainer={num_epoch: 3}", ["trainer.num_epoch: no such key", "trainer.num_epochs"]),
    "key below a value": ("seed.x=1", ["seed.x: no such key"]),
    "added where nothing reads": ("+sed=1", ["sed: nothing reads this key; did you mean seed?"]),
    "added twice over": ("++sed=1", ["sed: nothing reads this key; did you mean seed?"]),
    "added to a plain section": ("+trainer.x=1", ["trainer.x: nothing reads this key"]),
    "added as a mapping": ("+trainer={x: 1}", ["trainer.x: nothing reads this key"]),
    "added but there": ("+seed=1", ["+seed=1: seed already exists; remove the +"]),
    "added group but there": ("+experiment=base", ["train already chooses from experiment; remove the +"]),
    "nested group without +": ("experiment/table2=row1", ["write experiment=table2/row1"]),
    "value over a section": ("trainer=5", ["trainer=5: trainer is a section", "trainer.num_epochs=3"]),
    "removed section": ("~trainer", ["~trainer: train needs trainer"]),
    "removed key": ("~seed", ["~seed: train needs seed"]),
    "sweep": ("seed=1,2", ["add -m to run it", "seed=[1,2]", "'seed=\"1,2\"'"]),
    "sweep function": ("seed=range(1,3)", ["add -m to run it"]),
    "equals sign": ("init_from=epoch=3.pt", ["does not parse", "'init_from=\"epoch=3.pt\"'"]),
    "parentheses": ("init_from=a(1).pt", ["does not parse", "'init_from=\"a(1).pt\"'"]),
    "quotes": ('init_from=a"b', ["does not parse", """'init_from="a\\"b"'"""]),
    "in a list": ("init_from=[a=1,b]", ["does not parse", """'init_from=["a=1",b]'"""]),
    "cast": ("seed=int(x)", ["invalid literal for int"]),
    "no value": ("seed", ["seed: expected key=value"]),
    "no key": ("=1", ["'' is not a key"]),
    "blank in the key": ("a b=1", ["'a b' is not a key"]),
    "Hydra's own": ("hydra.run.dir=x", ["facerec does not use Hydra's own keys"]),
    "dangling reference": ("seed=${nope}", ["Interpolation key 'nope' not found", "head.seed"]),
    "mandatory": ("seed=???", ["seed is not set; give seed=..."]),
}


@pytest.mark.parametrize(("override", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_mistakes_are_refused_with_the_mend(override, says):
    with pytest.raises(ConfigError) as caught:
        compose("train", [override])
    message, position = str(caught.value), 0
    for part in says:
        assert part in message[position:], message
        position = message.index(part, position)
    assert "\n" not in message


@pytest.mark.parametrize("override", [REFUSED[name][0] for name in ("equals sign", "parentheses", "quotes")])
def test_quoted_form_in_the_message_works(override):
    import shlex

    with pytest.raises(ConfigError) as caught:
        compose("train", [override])
    quoted = str(caught.value).partition("for the shell: ")[2]
    assert compose("train", shlex.split(quoted)).init_from == override.partition("=")[2]


def test_arguments_may_be_added_and_removed_where_a_constructor_is_asked():
    assert "m2" not in compose("train", ["~head.m2"]).head
    assert compose("train", ["+head.m3x=1"]).head.m3x == 1  # check_config refuses it
    assert compose("train", ["~experiment"]).seed == 0


def test_missing_values_can_be_shown():
    with pytest.raises(ConfigError, match=r"model is not set; give model=\.\.\."):
        compose("evaluate", [])
    assert OmegaConf.to_container(compose("evaluate", ["out=x"], allow_missing=True)) == {"model": "???", "out": "x"}


def test_own_options_stand_beside_those_of_facerec(tmp_path):
    own = tmp_path / "own folder"
    (own / "experiment").mkdir(parents=True)
    (own / "head").mkdir()
    (own / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /head: own\ntrainer:\n  num_epochs: 11\n"
    )
    (own / "head" / "own.yaml").write_text("_target_: facerec.heads.combined.MarginHead\nm2: 0.45\n")
    config = compose("train", ["experiment=mine"], own)
    assert (config.trainer.num_epochs, config.head.m2) == (11, 0.45)
    assert compose("train", ["experiment=base"], own).head.m3 == 0.35
    with pytest.raises(ConfigError, match="experiment takes: base, mine, table2/row1"):
        compose("train", ["experiment=typo"], own)


def test_file_that_options_share_is_no_option(configs, tmp_path):
    (configs / "head" / "_scaled.yaml").write_text("scale: 32.0\n")
    (tmp_path / "own" / "head").mkdir(parents=True)
    (tmp_path / "own" / "head" / "mine.yaml").write_text(
        "defaults: [_scaled, _self_]\n_target_: mylab.Head\nm2: 0.45\n"
    )
    head = compose("train", ["head=mine"], tmp_path / "own").head
    assert (head.scale, head.m2, head._target_) == (32.0, 0.45, "mylab.Head")
    with pytest.raises(ConfigError, match=r"head=_scaled: no such option.*head takes: [^_]*$"):
        compose("train", ["head=_scaled"], tmp_path / "own")


def test_own_file_that_facerec_has_too_is_refused(tmp_path):
    (tmp_path / "own" / "head").mkdir(parents=True)
    (tmp_path / "own" / "head" / "arcface.yaml").write_text("m2: 0.45\n")
    with pytest.raises(ConfigError, match=r"facerec has its own head/arcface\.yaml; rename yours"):
        compose("train", [], tmp_path / "own")


def test_config_dir_must_exist(tmp_path):
    with pytest.raises(ConfigError, match=r"--config-dir .*nowhere: no such directory"):
        compose("train", [], tmp_path / "nowhere")


def test_broken_yaml_is_named(configs):
    (configs / "experiment" / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        compose("train", ["experiment=broken"])


def test_broken_choice_inside_a_file_is_named(configs):
    (configs / "experiment" / "wrong.yaml").write_text("# @package _global_\ndefaults:\n  - override /head: nope\n")
    with pytest.raises(ConfigError, match=r"head/nope") as caught:
        compose("train", ["experiment=wrong"])
    assert "search path" not in str(caught.value)
