"""Sets class centres to the mean embeddings of their classes, so that fine-tuning does not start with random centres.

Letters: B samples of a batch, c classes held by this process, K sub-centres per class, D embedding dimensions.
"""

import numpy as np
import torch
import torch.nn.functional as F

from facerec.core.log import LOGGER
from facerec.core.protocols import Embedder
from facerec.core.source import Source
from facerec.data.loader import WAYS_ON, BatchLoader, Replaced
from facerec.data.sources import Subset
from facerec.embedding.loop import Loop, embed_in_order
from facerec.heads.centres import ClassCentres
from facerec.heads.head import Head


def place_class_centres(
    head: Head | None, *, embed: Embedder, loader: BatchLoader, images_per_identity: int | None
) -> None:
    """Moves the centres of a head with init=class_mean to the means of their classes; other heads stay unchanged.

    Args:
        head: the head of the training, or None.
        embed, images_per_identity: see `start_at_class_means`.
        loader: the loader of the training set; skipped images are added to its list.

    Raises:
        DataError, ModelError, OtherProcessError: see `start_at_class_means`.
    """
    if head is not None and head.init == "class_mean":
        loader.replaced += start_at_class_means(
            head.centres,
            embed=embed,
            source=loader.source,
            batch_size=loader.micro_batch_size,
            images_per_identity=images_per_identity,
            num_threads=max(1, loader.num_workers),
            on_corrupt=loader.on_corrupt,
        )


def start_at_class_means(
    centres: ClassCentres,
    *,
    embed: Embedder,
    source: Source,
    batch_size: int,
    images_per_identity: int | None = None,
    num_threads: int = 1,
    on_corrupt: str = "error",
) -> list[Replaced]:
    """Sets every class centre to the mean of its images' L2-normalised embeddings, in place, with norm 1.

    A step rotates a centre by an angle that falls with the square of its norm. Random centres have a small norm
    (init_std sqrt(D), 0.23) so that they find their class within some steps; with that norm, means would be lost
    equally fast: on 49 identities, with a learning rate of 0.1, the loss rose from 0.9 to 3.5 in 8 steps and the
    centres left their means by 47 degrees; with norm 1, by 8 degrees. All K sub-centres of a class start equal. A class
    without images keeps its random centre.

    The images are not augmented. The result depends only on the network, the images and the batch size. Several
    processes embed one batch each at a time, and add up the embeddings of all for the classes that they hold, in the
    order of the batches: the centres equal those of one process, to the bit.

    Args:
        centres: on any device.
        embed: the network, in evaluation mode.
        source: the training set.
        batch_size: number of images that are read together.
        images_per_identity: use this many of an identity's images, evenly spread; None: all.
        num_threads: number of threads that read, in each process.
        on_corrupt: what happens to an unreadable image: "error", or "skip": the mean is that of the others.

    Returns:
        The skipped samples, as samples of the source, of step 0; on all processes.

    Raises:
        DataError: an image cannot be read.
        ModelError: the images do not have the network's size.
        OtherProcessError: another process raised one of these.
    """
    chosen = Subset(source=source, indices=_evenly(source.labels, images_per_identity))
    loop = Loop(
        batch_size=batch_size,
        num_threads=num_threads,
        stops_at_unreadable=on_corrupt == "error",
        way_on=WAYS_ON,
        what="class means",
    )
    sums_cD = torch.zeros(len(centres.classes), centres.embedding_dim)
    unreadable: dict[int, str] = {}
    for batch in embed_in_order(chosen, embed, loop):
        unreadable.update(batch.unreadable)
        if batch.readable:
            emb_BD = F.normalize(torch.from_numpy(batch.emb_BD))
            own_B = centres.local(torch.from_numpy(chosen.labels[batch.readable].astype(np.int64)))
            is_here_B = own_B >= 0
            sums_cD.index_add_(0, own_B[is_here_B], emb_BD[is_here_B])
    is_found_c = sums_cD.norm(dim=1) > 0
    weight_cKD = centres.weight.detach().view(len(sums_cD), centres.num_sub_centres, centres.embedding_dim)
    weight_cKD[is_found_c.to(weight_cKD.device)] = F.normalize(sums_cD[is_found_c])[:, None].to(weight_cKD)
    is_read = np.ones(len(chosen), dtype=bool)
    is_read[list(unreadable)] = False
    num_random = centres.num_classes - np.count_nonzero(np.bincount(chosen.labels[is_read]))
    LOGGER.info(
        "class centres: the means of %d images of %d identities%s",
        is_read.sum(),
        centres.num_classes - num_random,
        f"; {num_random} without images are random" if num_random else "",
    )
    return [
        Replaced(step=0, index=int(chosen.indices[index]), by=None, reason=reason)
        for index, reason in sorted(unreadable.items())
    ]


def _evenly(labels: np.ndarray, images_per_identity: int | None) -> np.ndarray:
    """Returns the samples to use, at most `images_per_identity` per identity, evenly spread: int64, ascending."""
    if images_per_identity is None:
        return np.arange(len(labels))
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels[order]]
    count = counts[labels[order]]
    return np.sort(order[rank * images_per_identity // count > (rank - 1) * images_per_identity // count])
