"""Sections of the configuration against the constructors they are meant for."""

import functools
import sys

import pytest
from omegaconf import OmegaConf

from facerec.cli.config.arguments import build, check_arguments, check_config, check_keys
from facerec.core.errors import ConfigError
from facerec.heads.combined import MarginHead
from facerec.heads.softmax import SoftmaxHead

HEAD = {"_target_": "facerec.heads.combined.MarginHead", "num_classes": None, "embedding_dim": 8}


class Whole:
    def __init__(self, *, part: SoftmaxHead, parts: list[SoftmaxHead], sizes: tuple[int, int] = (1, 2)) -> None:
        self.part, self.parts, self.sizes = part, parts, sizes


def open_ended(*, known: int = 0, **others: object) -> dict[str, object]:
    return {"known": known, **others}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "stand_in", sys.modules[__name__])


def test_text_for_a_number_is_refused_with_key_and_value():
    with pytest.raises(ConfigError, match=r"^head\.m2='O\.45' is text; expected a number \(float\)$"):
        check_arguments(MarginHead, {**HEAD, "m2": "O.45"}, section="head")


def test_unknown_argument_names_the_nearest_and_all():
    with pytest.raises(
        ConfigError, match=r"^head\.m3x: MarginHead takes no such argument; did you mean m3\? It takes: "
    ) as e:
        check_arguments(MarginHead, {**HEAD, "m3x": 1}, section="head")
    assert "It takes: m1, m2, m3, beyond_pi, gradient, num_classes, embedding_dim" in str(e.value)


def test_far_off_argument_gets_no_suggestion():
    with pytest.raises(ConfigError, match=r"takes no such argument\. It takes"):
        check_arguments(MarginHead, {**HEAD, "zzzzzz": 1}, section="head")


def test_absent_required_argument_is_refused_unless_provided():
    with pytest.raises(ConfigError, match=r"^head\.num_classes is not set; MarginHead needs it$"):
        check_arguments(MarginHead, {}, section="head")
    assert check_arguments(MarginHead, {}, section="head", provided={"num_classes"}) == {}


def test_integers_become_floats_and_the_rest_stays():
    fitted = check_arguments(MarginHead, {"num_classes": None, "m1": 1, "beyond_pi": "linear"}, section="head")
    assert fitted == {"num_classes": None, "m1": 1.0, "beyond_pi": "linear"}
    assert type(fitted["m1"]) is float


def test_open_ended_constructor_takes_any_name():
    assert check_arguments(open_ended, {"other": 1}, section="x") == {"other": 1}


def test_check_config_finds_sections_at_any_depth():
    config = {"outer": {"list": [{"_target_": "facerec.heads.softmax.SoftmaxHead", "m2": 0.1}]}}
    with pytest.raises(ConfigError, match=r"^outer\.list\[0\]\.m2: SoftmaxHead takes no such argument"):
        check_config(config)


def test_check_config_leaves_absent_arguments_to_build():
    check_config({"head": {"_target_": "facerec.heads.combined.MarginHead"}, "seed": 1})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("MarginHead", "expected a dotted path"),
        ("facerec.heads.nowhere.Head", "the module 'facerec.heads.nowhere' does not exist"),
        ("facerec.heads.head.Marginhead", "has no class or function 'Marginhead'"),
        ("facerec.heads.head.math", "has no class or function 'math'"),
    ],
)
def test_wrong_target_is_named(target, message):
    with pytest.raises(ConfigError, match=rf"^head\._target_={target}.*{message}"):
        check_config({"head": {"_target_": target}})


def test_target_in_need_of_an_absent_package_names_the_package(tmp_path, monkeypatch):
    (tmp_path / "needy.py").write_text("import package_that_is_absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="needs the package 'package_that_is_absent', which is not installed"):
        check_config({"x": {"_target_": "needy.Thing"}})


def test_check_keys_suggests_the_nearest():
    with pytest.raises(
        ConfigError, match=r"^logging\.every_step: no such key; did you mean every_steps\? Known keys: a, e"
    ):
        check_keys({"every_step": 1}, {"every_steps", "a"}, section="logging")
    check_keys({"a": 1}, {"every_steps", "a"})


def test_build_makes_the_head_with_what_the_run_provides():
    config = OmegaConf.create({"seed": 3, "head": {**HEAD, "m2": 1, "seed": "${seed}"}})
    head = build(config.head, num_classes=5)
    assert isinstance(head, MarginHead)
    assert head.centres.weight.shape == (5, 8)
    assert head.margin.m2 == 1.0


def test_build_names_the_section_of_a_nested_config():
    config = OmegaConf.create({"parts": {"head": {**HEAD, "m2": "x"}}})
    with pytest.raises(ConfigError, match=r"^parts\.head\.m2='x' is text"):
        build(config.parts.head, num_classes=5)


def test_build_refuses_a_value_that_contradicts_a_provided_one():
    with pytest.raises(ConfigError, match=r"num_classes=7, but this run gives 5"):
        build({**HEAD, "num_classes": 7}, num_classes=5)
    assert build({**HEAD, "num_classes": 5}, num_classes=5).centres.num_classes == 5


def test_build_makes_sections_inside_first():
    part = {"_target_": "facerec.heads.softmax.SoftmaxHead", "num_classes": 4, "embedding_dim": 8}
    whole = build({"_target_": "stand_in.Whole", "part": part, "parts": [part, part], "sizes": [3, 4]})
    assert isinstance(whole.part, SoftmaxHead)
    assert [type(item) for item in whole.parts] == [SoftmaxHead, SoftmaxHead]
    assert whole.sizes == (3, 4)


def test_build_partial_waits_for_the_other_arguments():
    made = build({"_target_": "facerec.heads.combined.MarginHead", "_partial_": True, "embedding_dim": 8})
    assert isinstance(made, functools.partial)
    assert made(num_classes=4).centres.weight.shape == (4, 8)
    with pytest.raises(ConfigError, match=r"_partial_='yes'; expected true or false"):
        build({**HEAD, "_partial_": "yes"})


def test_build_refuses_a_section_without_target():
    with pytest.raises(ConfigError, match="has no _target_"):
        build({"m1": 1})
