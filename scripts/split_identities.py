"""Splits a training set into identities for pre-training and identities for fine-tuning, with pairs of the latter.

python scripts/split_identities.py /data/celeba_wild /data/split

Writes split/pretrain (250 identities) and split/finetune (the others, without the last 6 images of identities with more
than 12), both as record files with lossless images, and split/finetune/held_out.bin: pairs of those last images, half
of which show one identity.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from facerec.data.records.recordio import write_record_set
from facerec.data.sources import open_source
from facerec.data.verification_file import write_pairs

NUM_PRETRAIN, NUM_HELD_OUT, NUM_PAIRS, SEED = 250, 6, 1200, 0


def main(root: str, out: Path) -> None:
    """Reads the set at `root`, writes the two parts below `out`."""
    source = open_source(root)
    generator = np.random.Generator(np.random.Philox(SEED))

    def encoded(index: int) -> bytes:
        return cv2.imencode(".png", cv2.cvtColor(source.image(index), cv2.COLOR_RGB2BGR))[1].tobytes()

    rows = [np.flatnonzero(source.labels == label) for label in generator.permutation(source.num_classes)]
    new = rows[NUM_PRETRAIN:]
    kept = [row[: -NUM_HELD_OUT if len(row) > 2 * NUM_HELD_OUT else None] for row in new]
    held_out = [row[-NUM_HELD_OUT:] for row in new if len(row) > 2 * NUM_HELD_OUT]
    write_record_set(out / "pretrain", ([encoded(i) for i in row] for row in rows[:NUM_PRETRAIN]))
    write_record_set(out / "finetune", ([encoded(i) for i in row] for row in kept))

    pairs = []
    for number in range(NUM_PAIRS):
        if number % 2 == 0:
            pairs += list(generator.choice(held_out[generator.integers(len(held_out))], 2, replace=False))
        else:
            pairs += [generator.choice(held_out[i]) for i in generator.choice(len(held_out), 2, replace=False)]
    is_same = [number % 2 == 0 for number in range(NUM_PAIRS)]
    write_pairs(out / "finetune" / "held_out.bin", [encoded(i) for i in pairs], is_same)
    sizes = [sum(map(len, part)) for part in (rows[:NUM_PRETRAIN], kept, held_out)]
    print(f"pretrain: {sizes[0]} images; finetune: {sizes[1]} images of {len(new)} identities, {sizes[2]} held out")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
