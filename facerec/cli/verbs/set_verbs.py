"""Shared by the verbs for data sets (align, pack, inspect, clean): reads their keys and checks their outputs."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from facerec.cli.config.arguments import check_arguments, check_keys
from facerec.cli.config.overrides import key_of, parse_overrides
from facerec.core.crop_size import DEFAULT_SIZE_PX, size_keys
from facerec.core.errors import ConfigError
from facerec.data.sources import AnySource, open_source

Settings = TypeVar("Settings")


def read_settings(
    settings: type[Settings], values: Mapping[str, Any], *, section: str = "", lowest: Mapping[str, int] | None = None
) -> Settings:
    """Returns the keys that are fields of a dataclass, from a section that may have others.

    Args:
        settings: the dataclass.
        values: the section.
        section: the section's name, for messages.
        lowest: the smallest value of whole numbers, by key; null is allowed.

    Raises:
        ConfigError: a value does not fit its annotation, or is below the lowest.
    """
    own = {key: values[key] for key in settings.__dataclass_fields__}  # type: ignore[attr-defined]
    read = settings(**check_arguments(settings, own, section=section))
    for key, least in (lowest or {}).items():
        if (value := getattr(read, key)) is not None and value < least:
            raise ConfigError(f"{section and section + '.'}{key}={value}; expected {least} or more")
    return read


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """The section `input` of these verbs: the size of the crops."""

    height_px: int | None
    width_px: int | None


def input_settings(config: DictConfig) -> InputSettings:
    """Reads section `input`."""
    check_keys(config.input, InputSettings.__dataclass_fields__, section="input")
    values: Any = OmegaConf.to_container(config.input)
    return read_settings(InputSettings, values, section="input", lowest={"height_px": 1, "width_px": 1})


def size_overrides(size_px: tuple[int, int]) -> str:
    """Returns the keys that the next command needs for crops of this size, after a space; "" for 112 x 112."""
    return "" if size_px == DEFAULT_SIZE_PX else f" {size_keys(size_px)}"


def open_set(config: DictConfig, *, renumber: bool = False) -> AnySource:
    """Opens the set of sections `data` and `input`, and prints its notes; see `open_source`, also for its errors."""
    values: Any = OmegaConf.to_container(config.data)
    arguments = check_arguments(open_source, values, section="data")
    source = open_source(**arguments, **vars(input_settings(config)), renumber=renumber)
    for note in source.notes():
        print(f"note         {note}")
    return source


def refuse_unread(overrides: Sequence[str], unread: Collection[str], *, why: str) -> None:
    """Refuses keys of the command line that have no effect with the other keys.

    Args:
        overrides: the overrides of the command line.
        unread: the keys or sections without effect.
        why: the reason, for the message.

    Raises:
        ConfigError: names the first such key.
    """
    for override in parse_overrides(overrides):
        key = key_of(override)
        if key in unread or key.split(".")[0] in unread:
            raise ConfigError(f"{override.input_line}: {why}; remove {key}")


def check_not_inside(out: Path, roots: str | Path | Sequence[str]) -> None:
    """Refuses an output inside a folder of identity folders, where it would count as an identity.

    Raises:
        ConfigError: names both folders.
    """
    for root in (Path(one).expanduser() for one in ([roots] if isinstance(roots, str | Path) else roots)):
        is_folders = root.is_dir() and not (root / "train.rec").exists()
        if is_folders and root.resolve() in (out.resolve(), *out.resolve().parents):
            raise ConfigError(f"out={out} is inside {root}, where every folder is an identity; choose another folder")


def check_model_size(takes_px: tuple[int, int], size_px: tuple[int, int], *, key: str) -> None:
    """Refuses a model that takes crops of another size than the set has.

    Args:
        takes_px: height and width of the model's input.
        size_px: height and width of the set's crops.
        key: the key that names the model.

    Raises:
        ConfigError: names the model's key and the keys of the size.
    """
    if takes_px != size_px:
        raise ConfigError(
            f"{key}: the model takes {takes_px[0]} x {takes_px[1]} pixels, but the crops are expected to be "
            f"{size_px[0]} x {size_px[1]}. Give a model trained with {size_keys(size_px)}; or, if the crops are "
            f"{takes_px[0]} x {takes_px[1]}, set {size_keys(takes_px)}"
        )


@contextmanager
def made_folder(out: Path) -> Iterator[None]:
    """Makes the folder before long work starts; removes it if the work fails while the folder is still empty.

    Raises:
        ConfigError: the folder cannot be made.
    """
    is_new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={out}: the folder cannot be made ({error.strerror})") from None
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):
                out.rmdir()
        raise
