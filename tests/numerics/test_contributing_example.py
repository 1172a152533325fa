"""The head of docs/extending.md against the formula of CONTRIBUTING.md: their text, through the checks of all heads."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.extending_page import write_lab
from tests.numerics import formulas
from tests.numerics.conftest import HEAD_FOLDER, build, read_head_config
from tests.numerics.test_head_numerics import (
    complex_step_gradients,
    formula,
    gradients,
    head_and_inputs,
    relative_error,
    run,
)

(FORMULA,) = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(), re.DOTALL)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The configuration of the example, whose module lies in a package of its own."""
    write_lab(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mylab", "mylab.sine_squared"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    namespace = {"np": np, "Case": formulas.Case, "Logits": formulas.Logits}
    exec(FORMULA, namespace)
    monkeypatch.setitem(formulas.FORMULAS, "SineSquaredHead", namespace["sine_squared"])
    own = read_head_config(tmp_path / "conf" / "head" / "sine_squared.yaml")
    return read_head_config(HEAD_FOLDER / "_scaled.yaml") | own  # what it inherits


@pytest.mark.parametrize("engine", ["dense", "chunked"])
def test_example_matches_its_formula(config, engine):
    config |= {"engine": engine, "classes_per_chunk": 4}
    head, emb_BD, labels_B = head_and_inputs(build, config, dtype=torch.float64)
    emb_BD = emb_BD[3::4].requires_grad_()
    case = formula(head, config, emb_BD, labels_B[3::4])
    output = run(head, emb_BD, labels_B[3::4])
    assert output.loss.item() == pytest.approx(formulas.sample_losses(case).mean(), rel=1e-11)
    found = gradients(output.loss, emb_BD, head.centres.weight)
    for mine, theirs in zip(found, complex_step_gradients(case), strict=True):
        assert relative_error(mine, torch.from_numpy(theirs)) < 1e-11
