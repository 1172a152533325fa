"""Draws the pictures of the README: a sheet of synthetic faces, and the curves of a finished demo.

python scripts/readme_pictures.py runs/demo/default
"""

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np

from facerec.plots.contact_sheet import image_grid
from facerec.synthetic.source import SyntheticFaces

NUM_IDENTITIES, NUM_SAMPLES = 5, 9
IMAGES = Path(__file__).parents[1] / "docs" / "images"


def main(run_dir: Path) -> None:
    """Writes docs/images/synthetic_faces.jpg and demo_curves.png."""
    faces = SyntheticFaces(seed=0)
    crops = [faces.crop(identity, sample) for identity in range(NUM_IDENTITIES) for sample in range(NUM_SAMPLES)]
    grid = image_grid(np.stack(crops), columns=NUM_SAMPLES)
    bgr = cv2.cvtColor(grid, cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(IMAGES / "synthetic_faces.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])
    shutil.copy(run_dir / "curves.png", IMAGES / "demo_curves.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
