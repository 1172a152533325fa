"""The files that docs/extending.md prints: the package mylab and its YAML, written to a folder as a reader would."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
FILES: dict[str, str] = dict(
    re.findall(r"^`((?:mylab|conf)/[\w/]+\.\w+)`(?:[^\n]+\n)+\n```\w+\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)
)
"""The content of each file, by its path."""


def write_lab(folder: Path) -> Path:
    """Writes all files of the page, and the package's `__init__.py`."""
    for name, content in {"mylab/__init__.py": "", **FILES}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder
