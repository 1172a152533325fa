"""Finds a class or function by its dotted path, as a configuration names it."""

import importlib
from collections.abc import Callable
from typing import Any

from facerec.core.errors import ConfigError


def import_path(path: str, *, key: str) -> Callable[..., Any]:
    """Returns the class or function with the dotted path `path`, for example facerec.heads.combined.MarginHead.

    Importing runs the code of the module: the path must come from the command line, from a configuration file that the
    user has chosen or from the caller's code, never from the content of a stored file.

    Args:
        path: the module and the name.
        key: the key of the configuration that gives the path, for messages.

    Raises:
        ConfigError: it does not exist, or importing it needs a package that is not installed.
    """
    module_path, _, name = path.rpartition(".")
    if not module_path:
        raise ConfigError(f"{key}={path}; expected a dotted path such as facerec.heads.combined.MarginHead")
    try:
        target = getattr(importlib.import_module(module_path), name, None)
    except ModuleNotFoundError as error:
        if error.name and not f"{module_path}.".startswith(f"{error.name}."):
            raise ConfigError(f"{key}={path} needs the package {error.name!r}, which is not installed") from None
        raise ConfigError(
            f"{key}={path}: the module {error.name!r} does not exist. Python finds a package of your own after pip "
            "install -e, or if its parent folder is in PYTHONPATH"
        ) from None
    if not callable(target):
        raise ConfigError(f"{key}={path}: the module {module_path} has no class or function {name!r}")
    return target
