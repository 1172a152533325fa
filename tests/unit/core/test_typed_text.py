"""What facerec prints to be typed: a shell gives back each word, and Hydra's grammar each value."""

import math
import random
import subprocess

import pytest
from omegaconf import OmegaConf

from facerec.cli.config.overrides import parse_overrides
from facerec.core.typed_text import override_of, shell_word, typed, typed_command

NAMES = [
    "runs/my run, = 2", "runs/跑", "it's", 'a "b"', "a\\", "a\\b", "${seed}", "\\${a}", "$HOME", "null", "True",
    "1e3", "007", "nan", "", " a ", "[a]", "a:b", "{a: b}", "a,b", "#1", "~x", "a, ~/b", "*", "a;b&c|d", "<x>",
    "`date`", "!!", "-x", "a\nb", "\x1b[31m",
]  # fmt: skip
PIECES = [*"ab1.-_/ \\\"'=,()[]{}$:#&;~*?@+%!<>|\t\né跑", "${", "${a}", "null", "1e3", "\\\\", "\\${"]


def value_of(text: str) -> object:
    """What a key gets from an override, once Hydra and OmegaConf have read it."""
    (parsed,) = parse_overrides([text])
    return OmegaConf.to_container(OmegaConf.create({"key": parsed.value()}), resolve=True)["key"]


@pytest.mark.parametrize("name", NAMES)
def test_a_key_gets_exactly_the_text(name):
    assert value_of(override_of("key", name)) == name
    assert value_of(override_of("key", [name, "b"])) == [name, "b"]


def test_a_key_gets_exactly_whatever_text():
    drawn = random.Random(0)
    for _ in range(2000):
        name = "".join(drawn.choice(PIECES) for _ in range(drawn.randint(0, 7)))
        if not name.startswith("~/") and name != "~":  # the home directory
            assert value_of(override_of("key", name)) == name


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "key=null"), (True, "key=true"), (3, "key=3"), (1e-4, "key=0.0001"), ([1, "a b"], 'key=[1,"a b"]')],
)
def test_numbers_truth_values_and_lists_are_written_as_the_grammar_has_them(value, text):
    assert override_of("key", value) == text and value_of(text) == value


def test_plain_names_are_left_as_they_are():
    assert typed("data.root", "/data/faces_2024/a-b.rec") == "data.root=/data/faces_2024/a-b.rec"
    assert typed("head.scale", math.inf) == "head.scale=inf"


def test_a_shell_gives_back_the_words():
    words = ["facerec", *NAMES, "\udcff\udcfe.jpg"]
    printed = typed_command(words)
    assert printed.isprintable()
    command = f"for word in {printed}; do printf '%s\\0' \"$word\"; done"
    shown = subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout
    assert shown.decode("utf-8", "surrogateescape").split("\0")[:-1] == words


def test_letters_that_the_terminal_cannot_show_are_given_by_number(monkeypatch):
    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr("sys.stdout", Ascii())
    assert shell_word("跑") == "$'\\xe8\\xb7\\x91'"
