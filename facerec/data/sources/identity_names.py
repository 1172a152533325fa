"""`identities.csv`: the names of the identities of a packed set, which its record files cannot hold."""

from pathlib import Path

import numpy as np

from facerec.core.csv_lines import csv_lines
from facerec.core.errors import DataError

NAMES_FILE = "identities.csv"
NAMES_COLUMNS = ("label", "identity", "num_images")


def read_identity_names(path: Path, num_images: np.ndarray) -> list[str]:
    """Returns the names in the order of the labels.

    Args:
        path: the file, with the columns label, identity and num_images.
        num_images: int64 (I,), the number of images of each label in the record file.

    Raises:
        DataError: the file is missing, or belongs to another set.
    """
    names: list[str] = []
    for line, cells in csv_lines(path, columns=NAMES_COLUMNS):
        label = len(names)
        found = (cells["label"], cells["num_images"])
        expected = (str(label), str(num_images[label]) if label < len(num_images) else "no")
        if found != expected:
            raise DataError(
                f"{path}, line {line}: label {found[0]} with {found[1]} images; the record file has "
                f"{expected[1]} of label {expected[0]}. It belongs to another set"
            )
        names.append(cells["identity"])
    if len(names) != len(num_images):
        raise DataError(f"{path}: {len(names)} names; the record file has {len(num_images)} identities")
    if len(set(names)) != len(names) or not all(names):
        raise DataError(f"{path}: a name is empty, or occurs twice")
    return names
