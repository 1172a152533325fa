#!/usr/bin/env python
"""Gives damaged files to the readers of records, verification sets, lists and weights, for a given time.

    scripts/fuzz_readers.py --minutes 10

Each round takes a small valid file, damages it (bytes changed, cut, repeated, swapped in from another file, numbers set
to extremes), and reads all of it. A reader may return, or raise DataError; for weights, any FacerecError. Everything
else is a fault: another exception, more than 10 seconds, or more than 1 GB above the memory that it had before.
The input of a fault is kept.
"""

import argparse
import json
import pickle
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from facerec.align.landmark_files import read_face_list
from facerec.align.photo_reader import encode_jpeg
from facerec.align.photo_table import read_photo_table
from facerec.analysis.proposals import Proposal, applied, read_proposals, write_proposals
from facerec.core.errors import DataError, FacerecError
from facerec.core.input_spec import InputSpec
from facerec.data.pair_lists import read_pair_list
from facerec.data.records.recordio import write_record_set
from facerec.data.sources import RecordSource
from facerec.data.sources.identity_names import read_identity_names
from facerec.data.verification_file import read_pairs, write_pairs
from facerec.networks.embedding_net import join
from facerec.networks.iresnet import IResNet
from facerec.networks.neck import BNDropoutFCBN
from facerec.networks.weights import CARD_FILE, MODEL_FILE, read_model

MOST_SECONDS = 10
MOST_BYTES = 1_000_000_000
EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x1FFFFFFF, 0xCED7230A, 1 << 24, 1 << 63]
TEXTS = [b"\t", b"\n", b"\r", b",", b'"', b"\0", b"-1", b"1e999", b"nan", b"9" * 20, b"\xff\xfe"]
TEXTS += [b"x" * 5000, b"x" * 140_000]  # the csv module accepts 131,072 characters in a cell

Reader = Callable[[Path], None]


def read_records(folder: Path) -> None:
    """Opens a set like a training, and reads all of it."""
    source = RecordSource(root=str(folder))
    len(source.labels), source.fingerprint(), source.num_classes
    for index in range(len(source)):
        try:
            source.image(index)
        except DataError:
            continue


def read_verification(path: Path) -> None:
    """Reads all pairs of a .bin."""
    pairs = read_pairs(path)
    for number in range(len(pairs.images)):
        try:
            pairs.decode(number)
        except DataError:
            continue


def read_and_apply(path: Path) -> None:
    """Reads edited proposals of a cleaning, and applies them."""
    applied(read_proposals(path), np.array([0, 0, 0, 1, 1, 2, 2, 2]), ["Ann", "Bob", "Cid"])


def read_weights(path: Path) -> None:
    """Reads a state dict in a file, or a model in a folder, into its network. Refusals must be FacerecErrors."""
    try:
        read_model(str(path)).network()
    except FacerecError as error:
        raise DataError(str(error)) from None


def write_weights(folder: Path) -> None:
    """Writes one small network as torch's zip, in torch's format before 1.6, and as facerec's model."""
    neck = partial(BNDropoutFCBN, embedding_dim=4)
    network = join(backbone=IResNet(depth=18, width_multiplier=0.25), neck=neck, input_spec=InputSpec())
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    torch.save(state, folder / "zip.pth")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    (folder / "model").mkdir()
    save_file(state, folder / "model" / MODEL_FILE)
    (folder / "model" / CARD_FILE).write_text(json.dumps(network.card()))


def seeds(folder: Path) -> dict[str, tuple[Reader, Path, str]]:
    """Returns kind -> its reader, a valid folder or file, and the file in it to damage."""
    rng = np.random.default_rng(0)
    write_weights(folder)
    crops = [encode_jpeg(rng.integers(0, 256, (112, 112, 3), dtype=np.uint8), quality=30) for _ in range(8)]
    write_record_set(folder / "set", [crops[:3], crops[3:5], crops[5:]])
    write_pairs(folder / "pairs.bin", crops, [True, False, True, False])
    arrays = [rng.integers(0, 256, (112, 112, 3), dtype=np.uint8) for _ in range(2)]
    (folder / "arrays.bin").write_bytes(pickle.dumps((arrays, [True]), protocol=4))
    rows = [f"p{i}/{i}.jpg,id{i % 3}," + ",".join(str(float(x)) for x in range(10)) for i in range(6)]
    header = "path,identity," + ",".join(f"{axis}{i}" for i in range(1, 6) for axis in "xy")
    (folder / "photos.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "photos.tsv").write_text("\n".join([header, *rows]).replace(",", "\t") + "\n")
    (folder / "pairs.txt").write_text(
        "2\t2\nA\t1\t2\nB\t1\t3\nA\t1\tB\t2\nB\t2\tA\t1\nA\t1\t2\nB\t1\t3\nA\t1\tB\t2\nB\t2\tA\t2\n"
    )
    (folder / "identities.csv").write_text("label,identity,num_images\n0,Ann,3\n1,Bob,2\n2,Cid,3\n")
    (folder / "pairs.csv").write_text("path1,path2,is_same\na/1.jpg,a/2.jpg,1\na/1.jpg,b/1.jpg,0\n")
    write_proposals(
        folder / "proposals.csv",
        [
            Proposal(kind="mislabelled", action="drop", image=1, identity="Ann", to="Bob", score=0.9, path="a/1.jpg"),
            Proposal(kind="two_people", action="move", image=4, identity="Bob", to="Bob_2", score=0.8, why="a, b"),
            Proposal(kind="one_person", action="merge", identity="Cid", to="Ann", score=0.7),
        ],
    )
    (folder / "faces.lst").write_text(
        "\n".join("\t".join(["0", f"p{i}/{i}.jpg", f"id{i % 3}", *map(str, range(3, 17))]) for i in range(6)) + "\n"
    )
    points = " ".join(
        f"{name}_{axis}" for name in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
    )
    lines = [f"{i:06d}.jpg {' '.join(map(str, range(10)))}" for i in range(6)]
    (folder / "list_landmarks.txt").write_text("\n".join(["6", points, *lines]) + "\n")
    (folder / "list_bbox.txt").write_text("2\nimage_id x_1 y_1 width height\n1.jpg 95 71 226 313\n2.jpg 0 0 0 0\n")
    (folder / "identities.txt").write_text("000001.jpg 2880\n000002.jpg 2937\n")
    lists = {
        name: (lambda path: void(read_face_list(path)), folder / file, "")
        for name, file in {
            "InsightFace .lst": "faces.lst",
            "list_landmarks": "list_landmarks.txt",
            "list_bbox": "list_bbox.txt",
            "identity_CelebA": "identities.txt",
        }.items()
    }
    return {
        ".rec": (read_records, folder / "set", "train.rec"),
        ".idx": (read_records, folder / "set", "train.idx"),
        "property": (read_records, folder / "set", "property"),
        ".bin, encoded": (read_verification, folder / "pairs.bin", ""),
        ".bin, arrays": (read_verification, folder / "arrays.bin", ""),
        "table .csv": (lambda path: void(read_photo_table(path)), folder / "photos.csv", ""),
        "table .tsv": (lambda path: void(read_photo_table(path)), folder / "photos.tsv", ""),
        "identities.csv": (
            lambda path: void(read_identity_names(path, np.array([3, 2, 3]))),
            folder / "identities.csv",
            "",
        ),
        "pairs.txt": (lambda path: void(read_pair_list(path)), folder / "pairs.txt", ""),
        "pairs .csv": (lambda path: void(read_pair_list(path)), folder / "pairs.csv", ""),
        "weights, zip": (read_weights, folder / "zip.pth", ""),
        "weights, legacy": (read_weights, folder / "legacy.pth", ""),
        "safetensors": (read_weights, folder / "model", MODEL_FILE),
        "model.json": (read_weights, folder / "model", CARD_FILE),
        "proposals.csv": (read_and_apply, folder / "proposals.csv", ""),
        **lists,
    }


def void(_: object) -> None:
    """Discards what a reader returns."""


def damaged(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Makes one to four random changes."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1) if rng.random() < 0.6 else rng.randrange(min(len(data), 64) + 1)
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] = rng.randrange(256)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at : at + rng.randint(1, 40)]
        elif kind == 3:
            data[at:at] = data[at : at + rng.randint(1, 200)] * rng.randint(1, 4)
        elif kind == 4:
            size = rng.choice([1, 2, 4, 8])
            number = rng.choice(EXTREMES) & ((1 << 8 * size) - 1)
            data[at : at + size] = number.to_bytes(size, rng.choice(["little", "big"]))
        elif kind == 5:
            data[at:at] = rng.choice(TEXTS)
        elif kind == 6 and other:
            start = rng.randrange(len(other))
            data[at:at] = other[start : start + rng.randint(1, 300)]
        elif kind == 7 and data:
            data[at : at + 1] = bytes([data[min(at, len(data) - 1)] ^ (1 << rng.randrange(8))])
    return bytes(data)


def out_of_time(*_: object) -> None:
    raise TimeoutError(f"more than {MOST_SECONDS} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only kinds with this word in their name")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    signal.signal(signal.SIGALRM, out_of_time)
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    num_faults = 0
    with tempfile.TemporaryDirectory() as temporary:
        valid, work = Path(temporary) / "valid", Path(temporary) / "work"
        valid.mkdir()
        kinds = {kind: seed for kind, seed in seeds(valid).items() if arguments.only in kind}
        contents = {kind: (path / name if name else path).read_bytes() for kind, (_, path, name) in kinds.items()}
        for read, path, _ in kinds.values():
            read(path)  # valid files must be read
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, resource.RLIM_INFINITY))
        end = time.monotonic() + 60 * arguments.minutes
        while time.monotonic() < end:
            kind = rng.choice(list(kinds))
            read, path, name = kinds[kind]
            data = damaged(contents[kind], contents[rng.choice(list(kinds))], rng)
            target = work / f"{sum(counts.values()) % 64}"
            place(target, path, name, data)
            counts[kind] += 1
            signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
            try:
                read(target if name else target / path.name)
            except DataError:
                refused[kind] += 1
            except Exception as error:
                num_faults += 1
                arguments.keep.mkdir(parents=True, exist_ok=True)
                kept = arguments.keep / f"{num_faults:03d}-{name or path.name}"
                kept.write_bytes(data)
                print(f"FAULT {kind}: {type(error).__name__}: {error} ({kept})", file=sys.stderr)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    for kind, number in sorted(counts.items()):
        print(f"{kind:<16} {number:>8,} damaged files, {refused[kind]:>8,} refused with DataError, the others read")
    print(f"{sum(counts.values()):,} in {arguments.minutes:g} minutes, seed {arguments.seed}: {num_faults} faults")
    return 1 if num_faults else 0


def place(target: Path, path: Path, name: str, data: bytes) -> None:
    """Copies the valid files of a set beside the damaged one; or only the damaged one."""
    target.mkdir(parents=True, exist_ok=True)
    if name:
        for file in path.iterdir():
            (target / file.name).write_bytes(data if file.name == name else file.read_bytes())
    else:
        (target / path.name).write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
