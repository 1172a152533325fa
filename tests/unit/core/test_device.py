"""Choosing a device."""

import pytest
import torch

from facerec.core.device import choose_device, keep_freed_memory
from facerec.core.errors import ConfigError


def test_auto_takes_cuda_where_there_is_one():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_device_that_is_not_there_is_refused(name):
    with pytest.raises(ConfigError, match=f"device={name} cannot be used"):
        choose_device(name)


def test_keeping_freed_memory_changes_no_result():
    before = torch.ones(1000, 1000).sum()
    keep_freed_memory()
    assert torch.equal(torch.ones(1000, 1000).sum(), before)
