"""What the tests of the command line share."""

from collections.abc import Callable, Iterator

import pytest
import torch

from facerec.cli.main import main


@pytest.fixture
def command(capsys) -> Iterator[Callable[..., tuple[int, str]]]:
    """`command("train", ...)` runs the command line here: (exit code, what was printed)."""
    num_threads = torch.get_num_threads()

    def run(*argv: str) -> tuple[int, str]:
        capsys.readouterr()
        try:
            main(argv)
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    yield run
    torch.set_num_threads(num_threads)
