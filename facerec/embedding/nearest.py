"""Finds the nearest of very many embeddings, without ever holding the whole matrix of their cosines.

Letters: N rows, M columns, D embedding dimensions, b rows and m columns of a tile.
"""

from collections.abc import Callable, Iterator

import numpy as np

from facerec.core.progress_bar import progress_bar

TILE_ROWS, TILE_COLUMNS = 1024, 16384
"""64 MiB of float32, and large enough for a BLAS at full speed."""


def tiles(num: int, size: int) -> Iterator[slice]:
    """Yields 0 .. num in parts of this size; the last one may be smaller."""
    for start in range(0, num, size):
        yield slice(start, min(start + size, num))


def highest_cosines(
    rows: Callable[[slice], np.ndarray],
    columns_MD: np.ndarray,
    *,
    num_rows: int,
    row_ids: np.ndarray | None = None,
    column_ids: np.ndarray | None = None,
    what: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns for every row the most similar column.

    Args:
        rows: a slice of 0 .. N - 1 -> float32 (b, D).
        columns_MD: float32 (M, D), all held in memory.
        num_rows: N.
        row_ids, column_ids: (N,) and (M,); if both are given, a row is not compared with columns of its own id.
        what: names the work, for a progress bar; None: no bar.

    Returns:
        float32 (N,), the highest dot product, and int64 (N,), the first column with it; -inf and -1 for a row that is
        compared with no column.
    """
    best_N, which_N = np.full(num_rows, -np.inf, dtype=np.float32), np.full(num_rows, -1)
    blocks = list(tiles(num_rows, TILE_ROWS))
    for block in blocks if what is None else progress_bar(blocks, what=what, unit="blocks"):
        emb_bD, best_b, which_b = rows(block), best_N[block], which_N[block]
        for columns in tiles(len(columns_MD), TILE_COLUMNS):
            cos_bm = emb_bD @ columns_MD[columns].T
            if row_ids is not None and column_ids is not None:
                np.copyto(cos_bm, -np.inf, where=row_ids[block, None] == column_ids[columns])
            nearest_b = cos_bm.argmax(axis=1)
            cos_b = cos_bm[np.arange(len(cos_bm)), nearest_b]
            is_higher_b = cos_b > best_b
            best_b[is_higher_b] = cos_b[is_higher_b]
            which_b[is_higher_b] = columns.start + nearest_b[is_higher_b]
    return best_N, which_N


def nearest_others(emb_ND: np.ndarray, labels: np.ndarray, *, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Finds for every row the most similar one with another label, by the cosine.

    Args:
        emb_ND: float32, of norm 1; may be mapped from a file.
        labels: int64 (N,), of two or more identities.
        what: names the work, for a progress bar.

    Returns:
        float32 (N,), the cosine, and int64 (N,), the row.
    """
    return highest_cosines(
        emb_ND.__getitem__, emb_ND, num_rows=len(labels), row_ids=labels, column_ids=labels, what=what
    )


def nearest_images(emb_ND: np.ndarray, images_n: np.ndarray, among_m: np.ndarray, *, number: int) -> np.ndarray:
    """Finds for some images the most similar other images.

    Args:
        emb_ND: of norm 1; may be mapped from a file. Read in tiles.
        images_n: int64, the numbers of the images.
        among_m: int64, the numbers of the images to search, in which the images themselves may be.
        number: how many to find.

    Returns:
        int64 (n, number), the numbers of the images, the nearest first; -1 where there are fewer.
    """
    found = np.full((len(images_n), number), -1)
    for rows in tiles(len(images_n), TILE_ROWS):
        images_b = images_n[rows]
        emb_bD = emb_ND[images_b].astype(np.float32)
        cos_bk = np.full((len(images_b), number), -np.inf, dtype=np.float32)
        for columns in tiles(len(among_m), TILE_COLUMNS):
            cos_bm = emb_bD @ emb_ND[among_m[columns]].astype(np.float32).T
            np.copyto(cos_bm, -np.inf, where=images_b[:, None] == among_m[columns])
            cos_bm = np.concatenate([cos_bk, cos_bm], axis=1)
            best_bk = np.argpartition(-cos_bm, number - 1, axis=1)[:, :number]
            cos_bk = np.take_along_axis(cos_bm, best_bk, axis=1)
            numbers_bm = np.broadcast_to(among_m[columns], (len(images_b), len(among_m[columns])))
            found[rows] = np.take_along_axis(np.concatenate([found[rows], numbers_bm], axis=1), best_bk, axis=1)
        order_bk = np.argsort(-cos_bk, axis=1, kind="stable")
        is_found_bk = np.isfinite(np.take_along_axis(cos_bk, order_bk, axis=1))
        found[rows] = np.where(is_found_bk, np.take_along_axis(found[rows], order_bk, axis=1), -1)
    return found
