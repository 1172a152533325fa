"""Finds the YAML files of the configuration, and lists their groups and options. Sees files only, not Hydra."""

from collections.abc import Sequence
from pathlib import Path

import yaml

import facerec
from facerec.core.errors import ConfigError


def config_directory() -> Path:
    """Returns the configuration that comes with facerec: in the installed package, or `configs/` of the repository."""
    package = Path(facerec.__file__).resolve().parent
    for directory in (package / "configs", package.parent / "configs"):
        if directory.is_dir():
            return directory
    raise ConfigError(f"no configs/ in {package} or beside it: facerec is not completely installed; install it again")


def config_directories(config_dir: str | Path | None = None) -> list[Path]:
    """Returns `config_directory()`, and after it the user's own directory.

    Raises:
        ConfigError: `config_dir` is not a directory, or holds a file that facerec has too: one of the two would be
            silently ignored.
    """
    shipped = config_directory()
    if config_dir is None:
        return [shipped]
    own = Path(config_dir).expanduser().resolve()
    if not own.is_dir():
        raise ConfigError(f"--config-dir {config_dir}: no such directory; give the folder with your YAML groups")
    for file in sorted(own.rglob("*.yaml")) if own != shipped else ():
        name = file.relative_to(own)
        if (shipped / name).is_file():
            raise ConfigError(f"--config-dir {config_dir}: facerec has its own {name}; rename yours")
    return [shipped, own]


def is_group(name: str, directories: Sequence[Path]) -> bool:
    """True if `name`, for example "head" or "experiment/table2", is a folder of options."""
    return bool(name) and any((directory / name).is_dir() for directory in directories)


def group_options(name: str, directories: Sequence[Path], *, nested: bool = False) -> list[str]:
    """Returns the options of a group, sorted; with `nested`, also those in its subfolders, as "table2/row".

    A file whose name begins with `_` holds what several options share, and is no option itself.
    """
    options = set()
    for directory in directories:
        folder = directory / name
        pattern = "[!_]*.yaml"
        for file in folder.rglob(pattern) if nested else folder.glob(pattern):
            options.add(file.relative_to(folder).with_suffix("").as_posix())
    return sorted(options)


def default_choices(name: str, directories: Sequence[Path]) -> dict[str, str]:
    """Returns the options in the defaults list of a primary configuration, by their groups; without lists and null."""
    entries = (yaml.safe_load(find_config(name, directories).read_text()) or {}).get("defaults", [])
    pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    return {group: option for group, option in pairs if isinstance(option, str)}


def group_names(directories: Sequence[Path]) -> list[str]:
    """Returns all groups, including subfolders, sorted."""
    names = set()
    for directory in directories:
        for folder in directory.rglob("*"):
            if folder.is_dir() and any(folder.rglob("*.yaml")):
                names.add(folder.relative_to(directory).as_posix())
    return sorted(names)


def find_config(name: str, directories: Sequence[Path]) -> Path:
    """Returns the file of a primary configuration such as "train".

    Raises:
        ConfigError: no directory has it.
    """
    for directory in directories:
        if (directory / f"{name}.yaml").is_file():
            return directory / f"{name}.yaml"
    raise ConfigError(f"no {name}.yaml in {', '.join(str(directory) for directory in directories)}")
