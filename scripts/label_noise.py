#!/usr/bin/env python
"""Moves a share of a set's images to other identities, and later computes how many of them were found.

scripts/label_noise.py make /data/celeba_wild /data/celeba_noisy --share 0.03 --seed 1
facerec train experiment=celeba_wild_ir18s_arcface data.root=/data/celeba_noisy run_dir=runs/noisy
facerec clean model=runs/noisy data.root=/data/celeba_noisy out=cleaning
scripts/label_noise.py score /data/celeba_noisy cleaning/proposals.csv
"""

import argparse
import os
from pathlib import Path

import numpy as np

from facerec.analysis.proposals import read_proposals
from facerec.data.packing import pack_training_set
from facerec.data.sources import open_source
from facerec.data.sources.relabelled import RelabelledSource

TRUTH_FILE = "moved.csv"


def make(root: str, out: Path, *, share: float, seed: int) -> None:
    """Writes the noisy set, and the list of the moved images."""
    source = open_source(root)
    labels, random = source.labels.copy(), np.random.default_rng(seed)
    moved = random.choice(len(labels), round(share * len(labels)), replace=False)
    labels[moved] = (labels[moved] + random.integers(1, source.num_classes, len(moved))) % source.num_classes
    noisy = RelabelledSource(source=source, labels=labels, identities=source.identities)
    samples = np.arange(len(labels))
    pack_training_set(noisy, out, samples=samples, num_threads=os.cpu_count() or 1)
    packed = samples[labels.argsort(kind="stable")]  # in the order of the new set
    numbers = np.flatnonzero(np.isin(packed, moved))
    rows = [f"{number},{source.identities[source.labels[packed[number]]]}" for number in numbers.tolist()]
    (out / TRUTH_FILE).write_text("image,identity\n" + "\n".join(rows) + "\n")
    print(f"{out}: {len(moved)} of {len(labels)} images moved to another identity")


def score(root: Path, proposals: Path) -> None:
    """Prints recall and precision of the images that are proposed as mislabelled."""
    lines = (root / TRUTH_FILE).read_text().splitlines()[1:]
    truth = {int(image): identity for image, identity in (line.split(",", 1) for line in lines)}
    found = {one.image: one.to for one in read_proposals(proposals) if one.kind == "mislabelled"}
    right = found.keys() & truth.keys()
    print(f"moved {len(truth)}, proposed {len(found)}, of these moved {len(right)}")
    print(f"recall {len(right) / len(truth):.3f}, precision {len(right) / max(1, len(found)):.3f}")
    own = sum(found[image] == truth[image] for image in right)
    print(f"original identity named for {own} of the {len(right)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("root")
    making.add_argument("out", type=Path)
    making.add_argument("--share", type=float, default=0.03)
    making.add_argument("--seed", type=int, default=1)
    scoring = commands.add_parser("score")
    scoring.add_argument("root", type=Path)
    scoring.add_argument("proposals", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.root, arguments.out, share=arguments.share, seed=arguments.seed)
    else:
        score(arguments.root, arguments.proposals)


if __name__ == "__main__":
    main()
