"""docs/reference.md holds what the YAML files say now."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from facerec.cli.config.commented import leaves
from facerec.cli.config.config_files import config_directory, group_options
from facerec.cli.config.file_composition import compose_files
from facerec.cli.verb_list import VERBS

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_page", ROOT / "scripts" / "reference_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_up_to_date(reference):
    assert reference.PAGE == ROOT / "docs" / "reference.md"
    is_same = reference.PAGE.read_text(encoding="utf-8") == reference.page()
    assert is_same, "docs/reference.md is not what the files in configs/ say; run `make reference`"


def test_page_has_every_verb_group_option_and_key(reference):
    page, directories = reference.page(), [config_directory()]
    for verb in VERBS:
        assert f"\n## facerec {verb}\n" in page
        composition = compose_files(verb, directories)
        names = {name for name, _ in leaves(composition.keys) if not name.endswith("_target_")}
        assert [name for name in names - set(composition.choices) if f"| `{name}` | " not in page] == []
    for group in compose_files("train", directories).choices:
        assert f"\n## group {group}\n" in page
        for option in group_options(group, directories, nested=group == "experiment"):
            assert any(f"{sign}{option}" in page for sign in ("=", "[", "`")), f"{group}={option}"
    assert "\n### head=adaface\n" in page and "\n### optimizer=sgd (the default)\n" in page
    assert "| `schedule.milestones_steps` | `[20000, 28000]` | steps at which the rate falls" in page


def test_links_lead_to_headings(reference):
    page = reference.page()
    headings = {reference._anchor(title) for title in re.findall(r"^#+ (.*)$", page, re.MULTILINE)}
    links = re.findall(r"\]\((#[^)]*)\)", page)
    assert len(links) > 30 and set(links) <= headings
