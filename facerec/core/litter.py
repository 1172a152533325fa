"""Recognises files and folders that operating systems add to photos, so that listings of folders can skip them."""

from pathlib import Path

_NAMES = frozenset(
    {
        "__macosx",  # macOS, in ZIP archives: a folder with a `._` file for each file
        "icon\r",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
        "@eadir",  # Synology
        "#recycle",
        "lost+found",
    }
)


def is_litter(name: str) -> bool:
    """True for names of files and folders that a system has made, and for hidden ones, which begin with a dot."""
    return name.startswith(".") or name.casefold() in _NAMES


def files_with_suffix(folder: Path, suffix: str) -> list[Path]:
    """Returns the files of a folder whose names end with a suffix such as ".bin", by name, without litter."""
    return sorted(path for path in folder.glob(f"*{suffix}") if not is_litter(path.name))
