#!/usr/bin/env python
"""Opens a record set with as many images as WebFace42M and reads at random; prints times, memory and bytes touched.

    scripts/large_index.py --images 42500000 --folder /tmp/large

The index is complete; the `.rec` is sparse, and holds only the records that are read. Each step runs in a separate
process: opening for the first time, opening again, and 1,000 random reads.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from facerec.data.records.recordio import RecordReader, frame, pack

RECORD_BYTES = 8192
NUM_READS = 1000
IMAGE_BYTES = 7000
LINES_PER_BLOCK = 500_000


def wanted_rows(num_images: int) -> np.ndarray:
    """Returns the rows to read, int64 (NUM_READS,), and the last row."""
    return np.append(np.random.default_rng(1).integers(0, num_images, NUM_READS - 1), num_images - 1)


def write_set(folder: Path, num_images: int) -> None:
    """Writes `train.idx` with `num_images` lines, and `train.rec` with holes between the wanted records."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.idx").open("wb") as file:
        for start in range(0, num_images, LINES_PER_BLOCK):
            rows = range(start, min(start + LINES_PER_BLOCK, num_images))
            file.write(b"".join(b"%d\t%d\n" % (row + 1, row * RECORD_BYTES) for row in rows))
    with (folder / "train.rec").open("wb") as file:
        for row in wanted_rows(num_images).tolist():
            file.seek(row * RECORD_BYTES)
            file.write(frame(pack(0.0, id=row, image=row.to_bytes(8, "little") * (IMAGE_BYTES // 8))))


def measure(folder: Path, num_images: int, *, reads: bool) -> None:
    """Opens the set, and reads; prints seconds, MB of memory and bytes as JSON."""
    reader = RecordReader(rec=folder / "train.rec", idx=folder / "train.idx")
    before_mb = memory_mb("VmHWM")
    start = time.perf_counter()
    assert len(reader) == num_images
    opened_s = time.perf_counter() - start
    result: dict[str, float] = {"opened_s": opened_s, "peak_mb": memory_mb("VmHWM") - before_mb}
    if reads:
        rows = wanted_rows(num_images)
        for path in [folder / "train.rec", *(folder / "cache").iterdir()]:
            forget(path)
        asked_bytes, disk_bytes = bytes_read()
        start = time.perf_counter()
        for row in rows.tolist():
            assert reader.record(row).id == row
        result |= {
            "reads_ms": 1e3 * (time.perf_counter() - start),
            "kb_asked_for_per_read": (bytes_read()[0] - asked_bytes) / 1e3 / len(rows),
            "kb_from_disk_per_read": (bytes_read()[1] - disk_bytes) / 1e3 / len(rows),
        }
    print(json.dumps(result))


def memory_mb(name: str) -> float:
    """Returns a value of this process from /proc/self/status, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise KeyError(name)


def bytes_read() -> tuple[int, int]:
    """Returns the bytes that this process has requested, and those that came from a disk, from /proc/self/io."""
    figures = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(figures["rchar"]), int(figures["read_bytes"])


def forget(path: Path) -> None:
    """Makes the system drop its cached pages of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=42_500_000)
    parser.add_argument("--folder", type=Path, required=True, help="folder to write to; 1.8 GB for 42.5 million images")
    parser.add_argument("--measure", choices=("open", "read"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return measure(arguments.folder, arguments.images, reads=arguments.measure == "read")
    write_set(arguments.folder, arguments.images)
    environment = {**os.environ, "FACEREC_CACHE": str(arguments.folder / "cache")}
    for what, step in {"opened first": "open", "opened again": "open", "read": "read"}.items():
        command = [sys.executable, __file__, f"--images={arguments.images}", f"--folder={arguments.folder}"]
        done = subprocess.run(
            [*command, f"--measure={step}"], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        figures = ", ".join(f"{name} {value:,.2f}" for name, value in json.loads(done.stdout).items())
        print(f"{what:<13} {figures}", flush=True)


if __name__ == "__main__":
    main()
