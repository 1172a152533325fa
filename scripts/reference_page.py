"""Writes docs/reference.md from the YAML files in configs/: every verb, group, option and key.

python scripts/reference_page.py (make reference)
"""

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from facerec.cli.config.commented import leaves, purpose, read_config_file
from facerec.cli.config.config_files import config_directory
from facerec.cli.config.file_composition import Composition, compose_files
from facerec.cli.config.key_help import header_of_option, options_of
from facerec.cli.config.key_table import TARGET, Row, rows_of
from facerec.cli.verb_list import VERBS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"
INTRO = """\
# Reference

Every verb, group, option and key, with its default and its meaning. `make reference` writes this page from the YAML
files in `configs/`: change their comments, not this page. `facerec VERB --help NAME` prints the same about one group,
option, section or key, and `facerec VERB ... --cfg job` prints the configuration that would run.

`KEY=VALUE` sets a key, and `GROUP=OPTION` chooses an option. `???` stands for a value that you must give. A default
that follows another key changes with it.
"""
RECIPES = ("experiment", "debug")  # groups of options that set keys of all sections


def page() -> str:
    """Returns the text of the page."""
    compositions = {verb: compose_files(verb, [config_directory()]) for verb in VERBS}
    groups: dict[str, Composition] = {}
    for composition in compositions.values():
        for group in composition.choices:
            groups.setdefault(group, composition)
    lines = [INTRO, f"Verbs: {_links((f'facerec {verb}', verb) for verb in VERBS)}."]
    lines.append(f"Groups: {_links((f'group {group}', group) for group in groups)}.")
    for verb, composition in compositions.items():
        lines += _verb(verb, composition)
    for group, composition in groups.items():
        lines += _recipes(group, composition) if group in RECIPES else _group(group, composition)
    return "\n\n".join(line.rstrip() for line in lines) + "\n"


def _verb(verb: str, composition: Composition) -> Iterator[str]:
    yield f"## facerec {verb}"
    yield _prose(composition.headers[verb])
    if composition.choices:
        own = [entry for entry, _ in read_config_file(config_directory() / f"{verb}.yaml", verb).defaults]
        included = [entry for entry in own if isinstance(entry, str) and entry != "_self_"]
        if included:
            yield f"It also takes all groups and keys of {_links((f'facerec {one}', one) for one in included)}."
        else:
            yield "It chooses from these groups:"
            yield _table(
                ("group", "default", "what it is"),
                (
                    (
                        f"[{group}]({_anchor(f'group {group}')})",
                        _code(_shown(option)),
                        _cell(composition.group_comments[group]),
                    )
                    for group, option in composition.choices.items()
                ),
            )
    names = {name for name, _ in leaves(read_config_file(config_directory() / f"{verb}.yaml", verb).keys)}
    rows = [row for row in rows_of(composition, composition.keys) if row[0] in names - set(composition.choices)]
    yield from _keys(rows)
    yield "```\n" + "\n".join(VERBS[verb].examples) + "\n```"


def _group(group: str, composition: Composition) -> Iterator[str]:
    """Returns the section of a group: the keys of every option, and each option with its own."""
    verb = next(name for name in composition.headers if "/" not in name)
    yield f"## group {group}"
    yield f"{_sentence(composition.group_comments[group])}"
    section, directories = group.replace("/", "."), [config_directory()]
    options = options_of(group, composition, directories)
    is_list = isinstance(composition.choices[group], list)
    for number, option in enumerate(options):
        found = compose_files(verb, directories, {group: [option] if is_list else option})
        key = found.find(section)
        assert key is not None
        rows = {row[0]: row for row in rows_of(found, key.keys, f"{section}.")}
        files = {name: item.file for name, item in leaves(key.keys, f"{section}.")}
        bases = [name for name in found.headers if name.startswith(f"{group}/") and name != f"{group}/{option}"]
        bases = [base for base in bases if base.rpartition("/")[2] in options]
        own = [row for name, row in rows.items() if files[name].startswith(f"{group}/")]
        if bases:
            own = [row for row in own if files[row[0]] == f"{group}/{option}"]
        if number == 0 and (common := [row for name, row in rows.items() if not files[name].startswith(f"{group}/")]):
            yield f"Keys of every option of {group}:"
            yield from _keys(common)
        default = " (the default)" if composition.choices[group] == option else ""
        if options != ["default"]:
            yield f"### {group}={f'[{option}]' if is_list else option}{default}"
            yield _prose(header_of_option(f"{group}/{option}", directories))
        if bases:
            names = " and ".join(f"{group}={base.removeprefix(f'{group}/')}" for base in bases)
            yield f"It has the keys of {names}, with these defaults:"
        yield from _keys(own)
        if TARGET in key.keys:
            yield f"In Python: `{key.keys[TARGET].value}`"


def _recipes(group: str, composition: Composition) -> Iterator[str]:
    verb = next(name for name in composition.headers if "/" not in name)
    yield f"## group {group}"
    what = _sentence(composition.group_comments[group])
    yield f"{what} `facerec {verb} --help {group}=NAME` prints what an option sets."
    options = options_of(group, composition, [config_directory()])
    headers = {option: header_of_option(f"{group}/{option}", [config_directory()]) for option in options}
    yield _table(
        ("option", "what it is"), ((_code(option), _cell(purpose(header))) for option, header in headers.items())
    )


def _keys(rows: Iterable[Row]) -> Iterator[str]:
    rows = list(rows)
    if not rows:
        return
    yield _table(
        ("key", "default", "meaning"),
        ((_code(name), "see below" if "\n" in value else _code(value), _cell(text)) for name, value, text in rows),
    )
    for name, value, _ in rows:
        if "\n" in value:
            yield f"`{name}`:"
            yield f"```yaml\n{value}\n```"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _prose(header: str) -> str:
    """Returns a header as Markdown: its indented lines are commands."""
    parts = re.split(r"((?:^ +.*\n?)+)", header, flags=re.MULTILINE)
    texts = (
        f"```\n{textwrap.dedent(part).rstrip()}\n```" if part.startswith(" ") else _cell(part.strip()) for part in parts
    )
    return "\n\n".join(text for text in texts if text)


def _cell(text: str) -> str:
    return re.sub(r"([|<*])", r"\\\1", text)


def _sentence(text: str) -> str:
    return f"{_cell(text[:1].upper() + text[1:])}."


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def _shown(option: object) -> str:
    return "null" if option is None else str(option)


def _links(targets: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"[{text}]({_anchor(title)})" for title, text in targets)


def _anchor(title: str) -> str:
    """Returns the link that GitHub gives a heading."""
    return "#" + re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
