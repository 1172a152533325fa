"""Writes a composed configuration as YAML with the comments of the files that its keys come from."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from facerec.cli.config.commented import purpose
from facerec.cli.config.config_files import config_directories
from facerec.cli.config.file_composition import Choice, Composition, compose_files, inherited_keys
from facerec.cli.config.override_checks import is_choice
from facerec.cli.config.overrides import parse_overrides


def commented_yaml(
    config: DictConfig, verb: str, overrides: Sequence[str], config_dir: str | Path | None = None
) -> str:
    """Returns `config` as YAML text, with the comments of each key, and of each option above its section.

    Args:
        config: what `compose` has returned for the other arguments; only its values are written.
        verb, overrides, config_dir: see `compose`.
    """
    composition = _composition(verb, overrides, config_directories(config_dir))
    text = OmegaConf.to_yaml(config)
    lines = text.splitlines()
    above: dict[int, list[str]] = {}
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        for number, comments, beside in _comments(root, "", composition):
            above[number] = comments
            if beside:
                lines[number] += f" # {beside}"
    written = [f"# {line}".rstrip() for line in composition.headers[verb].splitlines()]
    written += [f"# {option}" for options in _options(composition, of_sections=False).values() for option in options]
    for number, line in enumerate(lines):
        indent = " " * (len(line) - len(line.lstrip()))
        written += [f"{indent}# {comment}".rstrip() for comment in above.get(number, ())]
        written.append(line)
    return "\n".join(written) + "\n"


def _composition(verb: str, overrides: Sequence[str], directories: Sequence[Path]) -> Composition:
    choices: dict[str, Choice] = {}
    added: dict[str, Choice] = {}
    for override in parse_overrides(overrides):
        if is_choice(override, directories):
            value = None if override.is_delete() else override.value()
            chosen = [str(one) for one in value] if isinstance(value, list) else None if value is None else str(value)
            (added if override.is_add() else choices)[override.key_or_group] = chosen
    composition = compose_files(verb, directories, choices, added)
    if len(directories) > 1:
        _add_inherited(composition, directories)
    return composition


def _add_inherited(composition: Composition, directories: Sequence[Path]) -> None:
    """Adds the keys that the user's own options can inherit, so that those in the configuration find their comments."""
    for group, chosen in composition.choices.items():
        section = composition.find(group.replace("/", "."))
        for option in chosen if isinstance(chosen, list) else [chosen]:
            if section is None or option is None or (directories[0] / group / f"{option}.yaml").is_file():
                continue
            terms = [key for key in section.keys.values() if key.file == f"{group}/{option}"]
            for key in terms if isinstance(chosen, list) else [section]:
                key.keys = {**inherited_keys(group, directories), **key.keys}


def _comments(mapping: yaml.MappingNode, prefix: str, composition: Composition) -> Iterator[tuple[int, list[str], str]]:
    """Returns, for each key with comments, its line, the comments that go above it, and the one that goes beside it."""
    options = _options(composition)
    for name, value in mapping.value:
        path, line = f"{prefix}{name.value}", name.start_mark.line
        key = composition.find(path)
        above = [*options.get(path, ()), *(key.above if key else ())]
        beside = key.beside if key else ""
        goes_on = value.start_mark.line == line and value.end_mark.line > line  # in the next line, as long text does
        if beside and goes_on:
            above, beside = [*above, beside], ""
        if above or beside:
            yield line, above, beside
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from _comments(value, f"{path}.", composition)


def _options(composition: Composition, *, of_sections: bool = True) -> dict[str, list[str]]:
    """Returns what the chosen options are, by their sections; or those of the options that set keys of all sections."""
    found: dict[str, list[str]] = {}
    for group, chosen in composition.choices.items():
        section = group.replace("/", ".")
        if (composition.find(section) is not None) == of_sections:
            for option in chosen if isinstance(chosen, list) else [chosen]:
                if option is not None:
                    what = purpose(composition.headers[f"{group}/{option}"])
                    found.setdefault(section, []).append(f"{group}={option}: {what}")
    return found
