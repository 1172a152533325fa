"""The composition for readers gives what Hydra composes, with the comments of the files."""

from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from facerec.cli.config.commented import leaves, read_config_file
from facerec.cli.config.config_files import config_directory, group_options
from facerec.cli.config.file_composition import Choice, Composition, compose_files
from facerec.cli.verb_list import VERBS
from facerec.core.errors import ConfigError

CONFIGS = config_directory()
GROUPS = ["augment", "backbone", "data", "head", "launch", "neck", "optimizer", "schedule", "trainer"]
LISTS = ["loss", "eval/benchmarks"]


def choices_that_cover_all_options() -> list[dict[str, Choice]]:
    """Each option of each group occurs once: the first ones of all groups together, then the second ones, ..."""
    options = {group: group_options(group, [CONFIGS]) for group in [*GROUPS, *LISTS]}
    return [
        {group: [names[i]] if group in LISTS else names[i] for group, names in options.items() if i < len(names)}
        for i in range(max(map(len, options.values())))
    ]


CHOICES: list[tuple[str, dict[str, Choice]]] = [
    *[(verb, {}) for verb in VERBS],
    *[("train", choices) for choices in choices_that_cover_all_options()],
    *[("train", {"experiment": name}) for name in group_options("experiment", [CONFIGS])],
    *[("train", {"experiment": f"table2/{row}"}) for row in ("softmax", "triplet_m035")],
    *[("train", {"debug": name}) for name in group_options("debug", [CONFIGS])],
    ("train", {"experiment": "casia_r50_arcface", "head": "adaface", "loss": ["intra", "inter"]}),
    ("train", {"backbone": "vit_s", "neck": "gdc"}),
    ("bench", {"backbone": "mobilefacenet", "experiment": "demo"}),
]


def composed_by_hydra(verb: str, choices: dict[str, Choice], directories=(CONFIGS,), added: str = "") -> Any:
    overrides = [f"{group}=[{','.join(o)}]" if isinstance(o, list) else f"{group}={o}" for group, o in choices.items()]
    overrides += [added] if added else []
    search = ",".join(f'"file://{path}"' for path in directories[1:])
    with hydra.initialize_config_dir(str(directories[0]), version_base="1.3"):
        config = hydra.compose(verb, overrides=[*overrides, f"hydra.searchpath=[{search}]"])
    return OmegaConf.to_container(config)


def values(composition: Composition) -> Any:
    config = OmegaConf.create()
    for name, key in leaves(composition.keys):
        read: Any = OmegaConf.to_container(OmegaConf.create(f"value: {_indented(key.value)}"))
        OmegaConf.update(config, name, read["value"])
    return OmegaConf.to_container(config)


def _indented(text: str | None) -> str:
    assert text is not None
    return text if "\n" not in text and not text.startswith("- ") else "\n  " + text.replace("\n", "\n  ")


def test_every_group_is_covered():
    chosen = {group for _, choices in CHOICES for group in choices}
    assert chosen | {"eval"} == set(compose_files("train", [CONFIGS]).choices)


@pytest.mark.parametrize(("verb", "choices"), CHOICES)
def test_files_compose_to_what_hydra_composes(verb, choices):
    assert values(compose_files(verb, [CONFIGS], choices)) == composed_by_hydra(verb, choices)


def test_added_group_and_own_directory_compose_as_in_hydra(tmp_path):
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "mine.yaml").write_text("defaults: [_angle, _self_]\n_target_: mylab.Mine\nq: 2\n")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n# Mine.\ndefaults:\n  - demo\n  - override /head: mine\n  - override /loss: [intra]\n"
        "head: {q: 3, scale: 16.0}\neval: {sets: []}\n"
    )
    both = [CONFIGS, tmp_path]
    expected = composed_by_hydra("train", {"experiment": "mine"}, both)
    assert values(compose_files("train", both, {"experiment": "mine"})) == expected
    assert (expected["head"]["q"], expected["head"]["scale"], expected["neck"]["embedding_dim"]) == (3, 16.0, 128)
    row = composed_by_hydra("train", {"experiment": "demo"}, added="+experiment/table2=cm2")
    assert row["head"]["m1"] == 0.9
    found = compose_files("train", [CONFIGS], {"experiment": "demo"}, {"experiment/table2": "cm2"})
    assert values(found) == row


def test_choices_are_those_of_files_and_arguments_in_the_order_of_the_list():
    found = compose_files("train", [CONFIGS], {"experiment": "demo", "optimizer": "adamw", "backbone": "mobilefacenet"})
    assert list(found.choices)[:4] == ["data", "augment", "neck", "backbone"]
    assert (found.choices["neck"], found.choices["schedule"], found.choices["optimizer"]) == ("gdc", "cosine", "adamw")
    assert found.choices["loss"] == [] and found.choices["debug"] is None


def test_references_are_followed_to_their_values():
    found = compose_files("train", [CONFIGS])
    assert found.resolve("${neck.embedding_dim}") == ("512", "neck.embedding_dim")
    assert found.resolve("${nope}") == ("${nope}", None)
    assert found.resolve("0.1") == ("0.1", None)
    assert found.resolve("${unless_set:num_steps,20}") == ("20", None)


FILE = """\
# @package _global_
# Says what it is for.
#   with a command
a: 1 # beside a
b: "x # y" # beside b

# a paragraph that stands alone

# above c,
# in two lines
c: # beside c
  d: [1, 2] # beside d
  # above e
  e:
    - one: {p: 0.5} # inside
    # between
    - two # the last
# after e
f: # nothing
g: |
  several
  lines
"""


def test_comments_belong_to_the_keys_beside_and_below_them(tmp_path):
    (tmp_path / "file.yaml").write_text(FILE)
    file = read_config_file(tmp_path / "file.yaml", "file")
    assert (file.header, file.package) == ("Says what it is for.\n  with a command", "_global_")
    c = file.keys["c"]
    assert {name: (key.value, key.comment) for name, key in [*file.keys.items(), *c.keys.items()]} == {
        "a": ("1", "beside a"),
        "b": ('"x # y"', "beside b"),
        "c": (None, "above c, in two lines beside c"),
        "f": ("", "after e nothing"),
        "g": ("|\n  several\n  lines", ""),
        "d": ("[1, 2]", "beside d"),
        "e": ("- one: {p: 0.5} # inside\n# between\n- two # the last", "above e"),
    }


def test_later_file_replaces_value_and_comment_and_a_section_keeps_its_first_comment(tmp_path):
    (tmp_path / "head").mkdir()
    (tmp_path / "train.yaml").write_text(
        "defaults:\n  - _self_\n  - head: x # which head\nhead: # of all heads\n  m: 1 # first\n  n: 1 # kept\n"
    )
    (tmp_path / "head" / "x.yaml").write_text("# X.\nm: 2 # second\nn: 2\n")
    found = compose_files("train", [tmp_path])
    assert found.group_comments == {"head": "which head"} and found.headers == {"train": "", "head/x": "X."}
    shown = {name: (key.value, key.comment, key.file) for name, key in leaves(found.keys)}
    assert shown == {"head.m": ("2", "second", "head/x"), "head.n": ("2", "kept", "head/x")}
    assert found.keys["head"].comment == "of all heads"


@pytest.mark.parametrize(("text", "says"), [("a: [1\n", "not valid YAML"), ("- a\n", "expected keys with values")])
def test_file_that_is_no_configuration_is_named(tmp_path, text, says):
    (tmp_path / "train.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"train\.yaml: {says}"):
        compose_files("train", [tmp_path])


def test_every_key_has_a_comment():
    """Except a key that follows another one, whose comment it shares."""
    compositions = [compose_files(verb, [CONFIGS]) for verb in VERBS]
    compositions += [compose_files("train", [CONFIGS], choices) for choices in choices_that_cover_all_options()]
    without = {
        f"{key.file}: {name}"
        for composition in compositions
        for name, key in leaves(composition.keys)
        if not key.comment and not name.endswith("_target_") and not (key.value or "").startswith("${")
    }
    assert without == set()
    assert all(composition.group_comments.keys() >= {"launch"} for composition in compositions if composition.choices)
