"""What a process does before it joins the others."""

import pytest

from facerec.cli.launching.process_group import process_group
from facerec.core.errors import ConfigError


@pytest.mark.parametrize("rank", [0, 1])
def test_process_with_an_unfit_device_says_so_without_waiting_for_the_others(rank, monkeypatch):
    for name, value in {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "RANK": rank, "LOCAL_RANK": rank}.items():
        monkeypatch.setenv(name, str(value))
    message = r"trainer\.device=cuda:0 would put all 2 processes"
    with pytest.raises(ConfigError, match=message), process_group(device="cuda:0", timeout_s=1):
        pass


def test_process_alone_chooses_its_device_before_anything_else(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    message = "device=cuda:99 cannot be used"
    with pytest.raises(ConfigError, match=message), process_group(device="cuda:99", timeout_s=1):
        pass
