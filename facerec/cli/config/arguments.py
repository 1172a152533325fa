"""Checks configuration values against the constructors that take them, and builds the parts.

A section of the configuration that names a constructor (`_target_`, a dotted path; with `_partial_: true`, some
arguments come later) may hold only arguments that the constructor takes, with values that fit its annotations.
Only a configuration from configuration files and the command line may come here, never the content of a stored file:
whoever chooses a `_target_` chooses the code that runs.
"""

import functools
import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from facerec.cli.config.annotations import Misfit, fit
from facerec.core.errors import ConfigError, did_you_mean
from facerec.core.import_path import import_path
from facerec.core.part_check import abstract_error, part_error
from facerec.core.typed_text import typed

TARGET = "_target_"
PARTIAL = "_partial_"


def check_config(config: DictConfig | Mapping[str, Any]) -> None:
    """Checks every section with a `_target_`, at any depth, for names and values.

    `build` checks for absent arguments, because it knows which ones the code provides.

    Raises:
        ConfigError: see `check_arguments`; or a `_target_` does not exist.
    """
    _walk(_container(config), "")


def check_arguments(
    constructor: Callable[..., Any], values: Mapping[str, Any], *, section: str, provided: Collection[str] = ()
) -> dict[str, Any]:
    """Checks the arguments of one constructor; returns them in the types of its annotations (a list as a tuple, ...).

    Args:
        constructor: a class or function; its signature and annotations say what it takes.
        values: the arguments by name; `_target_` and `_partial_` are ignored.
        section: the path of the values in the configuration, for messages.
        provided: names of arguments that the code adds later, so that they may be absent.

    Raises:
        ConfigError: the constructor does not take an argument, a value does not fit, or an argument is absent.
    """
    takes, open_ended = _parameters(constructor)
    annotations = _annotations(constructor)
    fitted = {}
    for key, value in values.items():
        # null removes what an experiment has set for another constructor.
        if key in (TARGET, PARTIAL) or (value is None and key not in takes):
            continue
        if key not in takes and not open_ended:
            raise ConfigError(
                f"{_join(section, key)}: {_name(constructor)} takes no such argument{did_you_mean(key, takes)} "
                f"It takes: {', '.join(takes) or 'nothing'}. Set it to null to remove what an experiment has set"
            )
        try:
            fitted[key] = fit(value, annotations.get(key, Any))
        except Misfit as misfit:
            raise ConfigError(_misfit_message(_join(section, key), misfit)) from None
    absent = [n for n, required in takes.items() if required and n not in values and n not in provided]
    if absent and not values.get(PARTIAL):
        raise ConfigError(f"{_join(section, absent[0])} is not set; {_name(constructor)} needs it")
    return fitted


def check_keys(config: DictConfig | Mapping[str, Any], allowed: Collection[str], *, section: str = "") -> None:
    """Refuses keys of a mapping that nothing reads.

    Raises:
        ConfigError: names the key, the nearest allowed one, and all of them.
    """
    for key in config:
        if key not in allowed:
            raise ConfigError(
                f"{_join(section, str(key))}: no such key{did_you_mean(str(key), allowed)} "
                f"Known keys: {', '.join(sorted(allowed))}"
            )


def build(section_config: DictConfig | Mapping[str, Any], **provided: Any) -> Any:
    """Checks a section and calls its `_target_` with its values and the `provided` ones.

    Builds sections with a `_target_` inside the section first. With `_partial_: true`, the result is a
    `functools.partial`. A value may be both in the section and in `provided` only if the section says null or the same.

    Raises:
        ConfigError: see `check_arguments`; the section has no `_target_`; or a value contradicts a provided one.
    """
    section = _section_of(section_config)
    return _build(_container(section_config), section, provided)


def _walk(value: Any, path: str) -> None:
    if isinstance(value, Mapping):
        if TARGET in value:
            constructor = import_path(str(value[TARGET]), key=_join(path, TARGET))
            _check_partial(value, path)
            check_arguments(constructor, {**value, PARTIAL: True}, section=path)
        for key, item in value.items():
            _walk(item, _join(path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _walk(item, f"{path}[{index}]")


def _build(values: Mapping[str, Any], section: str, provided: Mapping[str, Any]) -> Any:
    if TARGET not in values:
        raise ConfigError(f"{section or 'the configuration'} has no {TARGET}, so nothing can be built from it")
    constructor = import_path(str(values[TARGET]), key=_join(section, TARGET))
    _check_partial(values, section)
    if inspect.isclass(constructor) and inspect.isabstract(constructor):
        raise abstract_error(constructor, key=section, kind=_kind(section))
    fitted = check_arguments(constructor, values, section=section, provided=provided)
    takes, open_ended = _parameters(constructor)
    if not open_ended and (refused := [name for name in provided if name not in takes]):
        faults = [f"its constructor does not take {', '.join(refused)}, which facerec provides"]
        raise part_error(constructor, faults, key=section, kind=_kind(section))
    for name, value in provided.items():
        if fitted.get(name) is not None and fitted[name] != value:
            raise ConfigError(
                f"{_join(section, name)}={fitted[name]}, but this run gives {value}: leave it out, or set it to null"
            )
    arguments = {name: _build_inside(value, _join(section, name)) for name, value in fitted.items()} | dict(provided)
    return functools.partial(constructor, **arguments) if values.get(PARTIAL) else constructor(**arguments)


def _build_inside(value: Any, path: str) -> Any:
    if isinstance(value, Mapping):
        if TARGET in value:
            return _build(value, path, {})
        return {key: _build_inside(item, _join(path, str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_build_inside(item, f"{path}[{index}]") for index, item in enumerate(value))
    return value


def _kind(section: str) -> str:
    """Returns the word for the part that a section builds."""
    first = section.partition(".")[0]
    return {"loss": "loss term", "data": "source", "eval": "evaluator", "augment": "transform"}.get(first, first)


def _check_partial(values: Mapping[str, Any], section: str) -> None:
    if not isinstance(values.get(PARTIAL, False), bool):
        raise ConfigError(f"{_join(section, PARTIAL)}={values[PARTIAL]!r}; expected true or false")


def _parameters(constructor: Callable[..., Any]) -> tuple[dict[str, bool], bool]:
    """Returns the parameters that can be given by name, with True if required; and True if any other name is taken.

    `**options: Unpack[SomeTypedDict]` takes the names of the dictionary (PEP 692), a plain `**kwargs` any name.
    """
    try:
        parameters = inspect.signature(constructor).parameters.values()
    except ValueError:  # a function written in C without a signature
        return {}, True
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes = {p.name: p.default is p.empty for p in parameters if p.kind in by_name}
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            options = _unpacked(_hints(constructor).get(parameter.name))
            if options is None:
                return takes, True
            takes |= {name: name in options.__required_keys__ for name in typing.get_type_hints(options)}
    return takes, False


def _annotations(constructor: Callable[..., Any]) -> dict[str, Any]:
    hints = _hints(constructor)
    for hint in list(hints.values()):
        if (options := _unpacked(hint)) is not None:
            hints |= typing.get_type_hints(options)
    return hints


def _hints(constructor: Callable[..., Any]) -> dict[str, Any]:
    function = getattr(constructor, "__init__") if inspect.isclass(constructor) else constructor  # noqa: B009
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):  # a foreign class with unreadable annotations: its names are still checked
        return {}


def _unpacked(hint: Any) -> Any:
    """Returns the TypedDict inside Unpack[...], or None."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Unpack else None


def _misfit_message(key: str, misfit: Misfit) -> str:
    value = misfit.value
    if isinstance(value, bool):
        given = f"{key}={str(value).lower()} is a truth value"
    elif isinstance(value, str):
        given = f"{key}={value!r} is text"
    elif value is None:
        given = f"{key} is null"
    elif isinstance(value, Mapping | list):
        given = f"{key}={value} is {'a mapping' if isinstance(value, Mapping) else 'a list'}"
    else:
        given = f"{key}={value} is {'a whole number' if isinstance(value, int) else 'a number with a fraction'}"
    like = f": {typed(key, [value])}" if isinstance(value, str) and "a list" in misfit.expected else ""
    return f"{given}; expected {misfit.expected}{like}"


def _name(constructor: Callable[..., Any]) -> str:
    return getattr(constructor, "__name__", str(constructor))


def _join(section: str, key: str) -> str:
    return f"{section}.{key}" if section else key


def _section_of(config: DictConfig | Mapping[str, Any]) -> str:
    if isinstance(config, DictConfig):
        return str(config._get_full_key(None) or "")
    return str(config.get(TARGET, "")).rpartition(".")[2]


def _container(config: DictConfig | ListConfig | Mapping[str, Any]) -> Any:
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
