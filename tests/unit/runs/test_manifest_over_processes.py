"""A directory that two processes write, where one of them cannot."""

from pathlib import Path
from types import SimpleNamespace

from facerec.core.errors import CheckpointError, OtherProcessError
from facerec.processes.group import this_process
from facerec.runs import whole_directory as writing
from facerec.runs.whole_directory import whole_directory
from tests.processes import run_processes

GB = 10**9


def fail(folder: str) -> dict[str, str]:
    """What this process is told where the folder is not one for both, and where the disk is full for the second."""
    processes = this_process()
    told = {}
    for name, path in {"apart": Path(folder, str(processes.rank), "step-1"), "full": Path(folder, "step-1")}.items():
        if name == "full":
            writing.shutil.disk_usage = lambda _path: SimpleNamespace(free=3 * GB)  # type: ignore[assignment]
        try:
            with whole_directory(path, {}, needed_bytes=2 * GB, processes=processes) as partial:
                (partial / str(processes.rank)).write_text("some")
                if processes.rank == 1:
                    raise OSError(28, "No space left on device")
        except (CheckpointError, OtherProcessError) as error:
            told[name] = f"{type(error).__name__}: {error}"
    return told


def test_what_one_process_cannot_write_ends_both(tmp_path):
    first, second = run_processes(2, fail, str(tmp_path))
    assert second["apart"].startswith("CheckpointError: ") and "but process 1 does not see it" in second["apart"]
    assert first["apart"] == f"OtherProcessError: process 1: {second['apart'].partition(': ')[2]}"
    full = "step-1 could not be written: [Errno 28] No space left on device. What was saved before is untouched"
    assert full in first["full"] and first["full"].startswith("OtherProcessError: process 1: ")
    assert second["full"].endswith(f"{full}. 4.00 GB are needed and 3.00 GB free, so 1.00 GB are missing")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
