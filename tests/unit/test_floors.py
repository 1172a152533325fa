"""Holds the floors of the house: a room imports only rooms below it, and only `cli` sees Hydra.

Every import counts: those inside functions, those for type checkers, and modules that import_module() gets by name.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import facerec

PACKAGE = Path(facerec.__file__).parent
CONTRIBUTING = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
FLOORS = {
    room: int(floor)
    for floor, rooms in re.findall(r"^\| (\d+) \| (.*) \|$", CONTRIBUTING, re.MULTILINE)
    for room in re.findall(r"`(\w+)`", rooms)
}
ONLY_IN_CLI = ("hydra", "omegaconf")
PACKAGE_FILES = ("__init__.py", "__main__.py")
NOT_ROOMS = ("configs", "__pycache__")  # an installed package carries configs/ inside


def test_house_holds():
    assert violations(PACKAGE) == []


def test_table_of_floors_names_the_rooms_that_there_are():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name not in NOT_ROOMS}
    assert set(FLOORS) == rooms


def test_there_is_no_drawer_for_what_has_no_name():
    drawers = [p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*") if p.stem in ("util", "utils")]
    assert drawers == [], "a thing that has no room yet needs a name"


def test_importing_facerec_loads_no_room_and_nothing_heavy():
    code = (
        "import sys, facerec; heavy = {'torch', 'numpy', 'cv2', 'hydra', 'omegaconf', 'albumentations', 'matplotlib'};"
        "print(*sorted(m for m in sys.modules if m in heavy or m.startswith('facerec.')))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert loaded.stdout.split() == []


@pytest.mark.parametrize(
    ("file", "code", "wrong"),
    [
        ("data/a.py", "from facerec.training.trainer import Trainer", "facerec.training"),
        ("data/a.py", "import facerec.training.trainer as t", "facerec.training"),
        ("data/a.py", "from facerec import training", "facerec.training"),
        ("data/a.py", "def f():\n    from facerec.cli import main", "facerec.cli"),
        ("data/a.py", "if TYPE_CHECKING:\n    from facerec.evaluation.roc import Roc", "facerec.evaluation"),
        ("data/a.py", "from facerec.networks.iresnet import IResNet", "facerec.networks"),
        ("data/deep/a.py", "from ...losses import objective", "facerec.losses"),
        ("data/a.py", "from .. import losses", "facerec.losses"),
        ("data/a.py", "import importlib\nimportlib.import_module('facerec.cli.main')", "facerec.cli"),
        ("core/a.py", "from facerec.align.similarity import TEMPLATE", "facerec.align"),
        ("training/a.py", "from omegaconf import DictConfig", "omegaconf"),
        ("training/a.py", "def f():\n    import hydra.utils", "hydra"),
        ("__init__.py", "from facerec.core.errors import FacerecError", "facerec.core"),
        ("attic/a.py", "import os", "attic"),
        ("helpers.py", "import os", "helpers.py"),
    ],
)
def test_what_breaks_the_house_is_found(tmp_path, file, code, wrong):
    found = violations(house(tmp_path, file, code))
    assert len(found) == 1
    assert found[0].startswith(f"{file}:{code.count(chr(10)) + 1}: ") and wrong in found[0]


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("data/a.py", "from facerec.core.errors import DataError\nfrom facerec.align import similarity\nimport torch"),
        ("data/a.py", "from facerec.data.b import c\nfrom . import b\nfrom .b import c\nfrom ..core import errors"),
        ("cli/a.py", "import hydra\nimport facerec\nfrom facerec import __version__\nfrom facerec.bench import head"),
        ("__init__.py", "def load():\n    from facerec.embedding.model import Model"),
        (
            "__init__.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from facerec.evaluation import model",
        ),
        ("__main__.py", "from facerec.cli.main import main"),
    ],
)
def test_what_keeps_to_the_floors_passes(tmp_path, file, code):
    assert violations(house(tmp_path, file, code)) == []


def house(root: Path, file: str, code: str) -> Path:
    path = root / "facerec" / file
    path.parent.mkdir(parents=True)
    path.write_text(code)
    return root / "facerec"


def violations(package: Path) -> list[str]:
    """One line for each import that breaks a floor: file, line, what it imports and why it may not."""
    found = []
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        if relative.parts[0] in NOT_ROOMS:
            continue
        tree = ast.parse(path.read_text(), filename=str(path))
        lazy = lazy_lines(tree)
        if relative.parts[0] not in (*FLOORS, *PACKAGE_FILES):
            found.append(f"{relative.as_posix()}:1: {relative.parts[0]} is no room; DESIGN gives each room its floor")
            continue
        for line, module in imports(tree, relative):
            if reason := broken(relative, module, is_lazy=line in lazy):
                found.append(f"{relative.as_posix()}:{line}: imports {module}; {reason}")
    return found


def broken(file: Path, module: str, *, is_lazy: bool) -> str | None:
    """Why a file of the package may not import a module, or None."""
    room = file.parts[0] if len(file.parts) > 1 else None
    parts = module.split(".")
    if parts[0] in ONLY_IN_CLI:
        return None if room == "cli" else "only cli sees Hydra and its configurations"
    if parts[0] != "facerec" or len(parts) == 1 or parts[1] not in FLOORS:
        return None
    if room is None:
        is_entry = file.name == "__main__.py"
        return None if is_entry or is_lazy else "the package itself imports rooms inside functions only"
    other = parts[1]
    if other == room or FLOORS[other] < FLOORS[room]:
        return None
    return f"{room} is on floor {FLOORS[room]}, {other} on floor {FLOORS[other]}: rooms import lower floors only"


def imports(tree: ast.Module, file: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import in a file of the package; `from a import b` counts as a.b."""
    package = ["facerec", *file.parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "facerec":
                yield from ((node.lineno, f"facerec.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def lazy_lines(tree: ast.Module) -> set[int]:
    """The lines that importing the file does not run: bodies of functions and of `if TYPE_CHECKING`."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            lines.update(range(node.body[0].lineno, (node.body[-1].end_lineno or 0) + 1))
    return lines
