"""Class centres at the mean embeddings of their classes, so that fine-tuning does not begin with random ones.

Letters: B samples of a batch, C classes, K sub-centres per class, D embedding dimensions.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from facerec.core.protocols import Embedder, Source
from facerec.core.run_log import LOGGER
from facerec.data.augment import Augment
from facerec.data.loader import BatchLoader
from facerec.heads.centres import ClassCentres

SECONDS_BEFORE_THE_BAR = 5


def start_at_class_means(
    centres: ClassCentres,
    *,
    embed: Embedder,
    source: Source,
    batch_size: int,
    images_per_identity: int | None = None,
    num_workers: int = 0,
) -> None:
    """Sets every class centre to the mean of its images' L2-normalised embeddings, in place, with length 1.

    A step turns a centre by an angle that falls with the square of its length. Random centres are short
    (init_std sqrt(D), 0.23) so that they find their class within some steps; at that length the means are lost as
    fast: on 49 identities, with a rate of 0.1, the loss rose from 0.9 to 3.5 in 8 steps and the centres left their
    means by 47 degrees, with length 1 by 8. All K sub-centres of a class start alike. A class without images keeps
    its random centre.

    The images are not augmented. The result is a function of the network, the images and the batch size.

    Args:
        centres: on any device.
        embed: the network, in evaluation mode.
        source: the training set.
        batch_size: images read at a time.
        images_per_identity: take so many of an identity's images, evenly spread; None: all.
        num_workers: processes that read.

    Raises:
        DataError: an image cannot be read.
        ModelError: the images are of another size than the network takes.
    """
    from tqdm import tqdm

    chosen = _Chosen(source, _evenly(source.labels, images_per_identity))
    loader = BatchLoader(
        source=chosen,
        augment=Augment(),
        global_batch_size=batch_size,
        micro_batch_size=batch_size,
        seed=0,
        num_workers=num_workers,
    )
    sums_CD = torch.zeros(centres.num_classes, centres.embedding_dim)
    bar = tqdm(total=len(chosen), unit="image", desc="class means", delay=SECONDS_BEFORE_THE_BAR, dynamic_ncols=True)
    with bar:
        for batch in loader.batches(first_step=0, end_step=math.ceil(len(chosen) / batch_size)):
            count = min(batch_size, len(chosen) - batch.step * batch_size)  # the last batch goes on with a second epoch
            emb_BD = torch.from_numpy(embed(batch.images[:count].numpy()))
            sums_CD.index_add_(0, batch.labels[:count], F.normalize(emb_BD))
            bar.update(count)
    is_found_C = sums_CD.norm(dim=1) > 0
    weight_CKD = centres.weight.detach().view(centres.num_classes, centres.num_sub_centres, centres.embedding_dim)
    weight_CKD[is_found_C.to(weight_CKD.device)] = F.normalize(sums_CD[is_found_C])[:, None].to(weight_CKD)
    num_random = centres.num_classes - int(is_found_C.sum())
    LOGGER.info(
        "class centres: the means of %d images of %d identities%s",
        len(chosen),
        len(sums_CD) - num_random,
        f"; {num_random} without images are random" if num_random else "",
    )


def _evenly(labels: np.ndarray, images_per_identity: int | None) -> np.ndarray:
    """int64, ascending: the samples to take, of every identity at most `images_per_identity`, evenly spread."""
    if images_per_identity is None:
        return np.arange(len(labels))
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels[order]]
    count = counts[labels[order]]
    return np.sort(order[rank * images_per_identity // count > (rank - 1) * images_per_identity // count])


class _Chosen:
    """Some samples of a source."""

    def __init__(self, source: Source, indices: np.ndarray) -> None:
        self.source = source
        self.indices = indices
        self.num_classes = source.num_classes
        self.labels = source.labels[indices]

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int) -> np.ndarray:
        return self.source.image(int(self.indices[index]))

    def name(self, index: int) -> str:
        return self.source.name(int(self.indices[index]))

    def fingerprint(self) -> str:
        return self.source.fingerprint()
