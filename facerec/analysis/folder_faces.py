"""Finds the wrong person in a person's folder: compares the faces of photos with the other photos of the folder.

Letters: N photos, K faces in them, C identities, D embedding dimensions.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facerec.align.candidate_faces import CandidateFaces, DoubtfulCrop, FaceChoice, Judgement
from facerec.analysis.cleaning import Cleaner
from facerec.analysis.identity_centres import normalised
from facerec.core.protocols import Embedder
from facerec.embedding.embed_set import embed_set
from facerec.embedding.loop import Loop
from facerec.processes.group import Processes

BATCH_SIZE = 64
CLEARLY_NEARER = 0.1
"""Another face than the rule's is taken if its cosine is higher by this. Two strangers differ by less by chance."""


class FolderJudge:
    """Compares the faces of a set of photos by their embeddings; a `FaceJudge`.

    Args:
        embed: see `Embedder`.
        described: what the embeddings depend on besides the images: a model's `described()`.
        num_threads: number of threads that read, in each process; None: one for each of its cores.
        processes: the processes that share the work; None: those of torch.distributed's default group.
    """

    def __init__(
        self,
        *,
        embed: Embedder,
        described: Mapping[str, Any],
        num_threads: int | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.embed, self.described, self.num_threads, self.processes = embed, described, num_threads, processes

    def __call__(self, candidates: CandidateFaces, folder: Path) -> Judgement:
        """Embeds all faces into `folder`, and judges them.

        Raises:
            DataError, ModelError, OtherProcessError: see `embed_set`.
        """
        if not len(candidates):
            return Judgement()
        loop = Loop(batch_size=BATCH_SIZE, num_threads=self.num_threads, unit_length=True, what="comparing faces")
        found = embed_set(candidates, self.embed, folder, loop, described=self.described, processes=self.processes)
        return judged(candidates, found.emb_ND)


def judged(candidates: CandidateFaces, emb_KD: np.ndarray) -> Judgement:
    """Returns the judgement.

    Of several faces, the one is taken that is most similar to the mean of the identity's photos with one face; without
    such a photo, or if it is not clearly nearer, the rule's face. Then each taken face is compared with the others of
    its identity, as in `facerec clean`.

    Args:
        candidates: the faces.
        emb_KD: their embeddings, of norm 1; zeros for a face that could not be read.
    """
    choices: dict[int, FaceChoice] = {}
    only_k = np.flatnonzero(candidates.is_only_K & emb_KD.any(axis=1))
    labels_k = candidates.label_K[only_k]
    num_only_C = np.bincount(labels_k, minlength=len(candidates.wanted.identities))
    sums_CD = np.zeros((len(num_only_C), emb_KD.shape[1]), dtype=np.float32)
    np.add.at(sums_CD, labels_k, emb_KD[only_k].astype(np.float32))
    centres_CD = normalised(sums_CD)
    numbers_N, starts_N = np.unique(candidates.number_K, return_index=True)
    taken_N = starts_N.copy()
    for photo in np.flatnonzero(~candidates.is_only_K[starts_N]).tolist():
        start, label = starts_N[photo], candidates.label_K[starts_N[photo]]
        end = starts_N[photo + 1] if photo + 1 < len(starts_N) else len(emb_KD)
        if not num_only_C[label]:
            continue
        cosines = emb_KD[start:end].astype(np.float32) @ centres_CD[label]
        best = int(cosines.argmax()) if cosines.max() > cosines[0] + CLEARLY_NEARER else 0
        taken_N[photo] = start + best
        choices[int(numbers_N[photo])] = FaceChoice(
            face=int(candidates.face_K[start + best]),
            is_first=best == 0,
            cosine=float(cosines[best]),
            next_cosine=float(np.delete(cosines, best).max()),
            num_others=int(num_only_C[label]),
        )
    return Judgement(choices=choices, doubtful=_doubtful(candidates, emb_KD, numbers_N, taken_N))


def _doubtful(
    candidates: CandidateFaces, emb_KD: np.ndarray, numbers_N: np.ndarray, taken_N: np.ndarray
) -> list[DoubtfulCrop]:
    """Returns the taken faces that look like another identity than their own."""
    identities = candidates.wanted.identities
    cleaner = Cleaner(
        emb_ND=emb_KD[taken_N],
        labels=candidates.label_K[taken_N],
        identities=identities,
        name=lambda photo: candidates.name(int(taken_N[photo])),
    )
    places = cleaner.places
    return [
        DoubtfulCrop(
            number=int(numbers_N[one.image]),
            cosine=float(places.own_N[one.image]),
            like=one.to,
            like_cosine=float(places.other_N[one.image]),
            score=one.score,
        )
        for one in cleaner.mislabelled()
    ]
