"""Opens the set at a path, of whatever kind."""

from pathlib import Path
from typing import Literal, TypeAlias

from facerec.core.crop_size import DEFAULT_SIZE_PX, asked_size
from facerec.core.csv_lines import TABLE_SUFFIXES
from facerec.core.errors import ConfigError, DataError
from facerec.data.sources.folder_source import FolderSource
from facerec.data.sources.joined_source import JoinedSource
from facerec.data.sources.list_source import ListSource
from facerec.data.sources.record_source import RecordSource

AnySource: TypeAlias = RecordSource | FolderSource | ListSource | JoinedSource


def open_source(
    root: str | list[str],
    merge: Literal["none", "by_name"] = "none",
    height_px: int | None = None,
    width_px: int | None = None,
    *,
    renumber: bool = False,
) -> AnySource:
    """Opens the set at a path: a table of photos, a folder with `train.rec`, or a folder with one folder per identity;
    or joins the sets at several paths.

    Args:
        root: the path, or several.
        merge: for several paths: see `JoinedSource`.
        height_px, width_px: size of the crops (`input.height_px`, `input.width_px`). None: the size in a record file's
            `property`, else 112 x 112; if only one is given, the other is 112.
        renumber: see `RecordSource`.

    Raises:
        DataError: there is no such set.
        ConfigError: `merge` is given for one set; or a size is not positive.
    """
    size_px = asked_size(height_px, width_px)
    if not isinstance(root, str):
        return JoinedSource(parts=[_open_one(path, size_px, renumber) for path in root], merge=merge)
    if merge != "none":
        raise ConfigError(f"data.merge={merge} is for several sets, data.root=[a,b]; this is one: {root}")
    return _open_one(root, size_px, renumber)


def _open_one(root: str, size_px: tuple[int, int] | None, renumber: bool) -> RecordSource | FolderSource | ListSource:
    path = Path(root).expanduser()
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        return ListSource(root=root, size_px=size_px or DEFAULT_SIZE_PX)
    if not path.is_dir():
        found = "it is a file" if path.exists() else "there is no such folder"
        raise DataError(
            f"{path}: {found}. Expected a folder with train.rec, train.idx and property (InsightFace's layout), or "
            "with one folder of aligned face crops per identity; or a .csv or .tsv with the columns path, identity"
        )
    if (path / "train.rec").exists():
        return RecordSource(root=root, size_px=size_px, renumber=renumber)
    return FolderSource(root=root, size_px=size_px or DEFAULT_SIZE_PX)
