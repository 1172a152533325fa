"""Checks that a part of a training, which may be of the user's own class, has everything that facerec calls."""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from facerec.core.errors import ConfigError

PAGE = "docs/extending.md"
_SPECIAL = ("__call__", "__len__")
_GIVEN = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def check_part(part: object, protocol: type, *, key: str, kind: str, base: type | None = None) -> None:
    """Refuses a part that lacks something of its protocol. Nothing of the part is called.

    Args:
        part: the object.
        protocol: a Protocol, or a base class: its public attributes and methods are those that facerec uses.
        key: the key of the configuration that chooses the part, for the message.
        kind: the word for such a part; it is also a heading of `PAGE`.
        base: a class that the part must derive from.

    Raises:
        ConfigError: names everything that is absent, and every method that cannot be called as facerec calls it.
    """
    if faults := list(_faults(part, protocol, base)):
        raise part_error(part, faults, key=key, kind=kind)


def part_error(part: object, faults: Sequence[str], *, key: str, kind: str) -> ConfigError:
    """Returns the error for a part: its key, its class (or the part itself, a class), its faults, where to read."""
    a_kind = f"an {kind}" if kind[0] in "aeio" else f"a {kind}"
    return ConfigError(
        f"{key}: {class_name(part)} cannot serve as {a_kind}: {'; '.join(faults)}. "
        f"{PAGE}#{kind.replace(' ', '-')} describes what {a_kind} needs"
    )


def abstract_error(cls: type, *, key: str, kind: str) -> ConfigError:
    """Returns the error for a class that has not defined all abstract methods of its base."""
    absent = [_spelled(name, getattr(cls, name)) for name in cls.__abstractmethods__]  # type: ignore[attr-defined]
    return part_error(cls, [_has_no(sorted(absent))], key=key, kind=kind)


def class_name(part: object) -> str:
    """Returns the dotted name of an object's class; of a class itself, its own."""
    cls = part if isinstance(part, type) else type(part)
    return f"{cls.__module__}.{cls.__qualname__}"


def is_of_facerec(part: object) -> bool:
    """True if the class of the part is defined in facerec, whose own tests check it."""
    return type(part).__module__.partition(".")[0] == "facerec"


def _faults(part: object, protocol: type, base: type | None) -> Iterator[str]:
    is_derived = base is None or isinstance(part, base)
    if base is not None and not is_derived:
        yield f"it does not derive from {base.__module__}.{base.__qualname__}"
    present, absent, wrong = {}, [], []
    for name, member in _members(protocol).items():
        found = _static(part, name)
        if found is not None and not getattr(found, "__isabstractmethod__", False) and not _is_torch_stub(found):
            present[name] = member
        elif is_derived or protocol is not base or getattr(member, "__isabstractmethod__", False):
            absent.append(_spelled(name, member))
    for name, member in present.items():
        if fault := _misuse(part, name, member):
            wrong.append(fault)
    if absent:
        yield _has_no(absent)
    yield from wrong


def _members(protocol: type) -> dict[str, Any]:
    """Returns public attributes (None), properties and methods of a Protocol, or of a base class, by name."""
    classes = [cls for cls in protocol.__mro__ if getattr(cls, "_is_protocol", False) and cls is not Protocol]
    members: dict[str, Any] = {}
    for cls in reversed(classes or [protocol]):
        members |= dict.fromkeys(inspect.get_annotations(cls))
        members |= {name: value for name, value in vars(cls).items() if name not in members}
    return {name: value for name, value in members.items() if not name.startswith("_") or name in _SPECIAL}


def _static(part: object, name: str) -> Any:
    """Returns an attribute without running a property, which may open a file."""
    try:
        return inspect.getattr_static(part, name)
    except AttributeError:
        # nn.Module keeps parameters and submodules outside the attributes; a class may define __getattr__ itself.
        return getattr(part, name, None)


def _is_torch_stub(found: Any) -> bool:
    return getattr(found, "__name__", "") == "_forward_unimplemented"  # of an nn.Module without forward


def _misuse(part: object, name: str, member: Any) -> str | None:
    """Returns why a method cannot be called as that of the protocol, or an attribute not be read; None if it can."""
    found = _static(part, name)
    if not inspect.isfunction(member):
        is_method = inspect.isfunction(found)
        return f"{name} is a method; expected an attribute or a property" if is_method else None
    if found is member:
        return None
    try:
        signature = inspect.signature(getattr(part, name))
    except TypeError:
        return f"{name} is not a method; expected {_spelled(name, member)}"
    except ValueError:  # a function written in C without a signature
        return None
    parameters = _parameters(member)
    values = [None for p in parameters if p.kind is not p.KEYWORD_ONLY]
    try:
        signature.bind(*values, **{p.name: None for p in parameters if p.kind is p.KEYWORD_ONLY})
    except TypeError:
        its_own = ", ".join(str(p.replace(annotation=p.empty)) for p in signature.parameters.values())
        return f"{name}({its_own}) cannot be called as {_spelled(name, member)}"
    return None


def _parameters(function: Any) -> list[inspect.Parameter]:
    return [p for p in list(inspect.signature(function).parameters.values())[1:] if p.kind in _GIVEN]


def _spelled(name: str, member: Any) -> str:
    """Returns how a member is called or read: factor(step, num_steps=, steps_per_epoch=), or out_channels."""
    if not inspect.isfunction(member):
        return name
    words = [f"{p.name}=" if p.kind is p.KEYWORD_ONLY else p.name for p in _parameters(member)]
    return f"{name}({', '.join(words)})"


def _has_no(absent: Sequence[str]) -> str:
    *others, last = absent
    return f"it has no {', no '.join(others)} and no {last}" if others else f"it has no {last}"
