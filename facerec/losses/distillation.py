"""Distillation: pulls embeddings to those that a teacher gives for the same images.

Letters: B samples, D embedding dimensions.
"""

import torch
import torch.nn.functional as F

from facerec.core.errors import ConfigError
from facerec.core.protocols import Embedder
from facerec.losses.term import Term, TermInputs


class Distillation(Term):
    """The mean of 1 - cos(x_i, t_i) between the embeddings x and those of a teacher, t.

    The teacher sees the same augmented images as the network. It is neither trained nor saved.

    Args:
        weight: the coefficient in the objective.
        teacher: anything that embeds: uint8 (B, H, W, 3) RGB -> float32 (B, D), such as what `facerec.load` returns.
    """

    def __init__(self, *, weight: float = 1.0, teacher: Embedder) -> None:
        super().__init__(weight=weight)
        self._embed = teacher.__call__  # not the teacher itself: a module would be trained and saved with the objective

    def forward(self, inputs: TermInputs) -> torch.Tensor:
        """Returns a scalar in 0 .. 2; its gradient reaches the embeddings.

        Raises:
            ConfigError: the teacher's embeddings have another number of dimensions.
            ModelError: the teacher takes images of another size.
        """
        emb_BD = inputs.emb_BD
        teacher_BD = torch.from_numpy(self._embed(inputs.images.cpu().numpy())).to(emb_BD)
        if teacher_BD.shape != emb_BD.shape:
            raise ConfigError(
                f"the teacher of Distillation gives embeddings of {teacher_BD.shape[1]} dimensions, the network "
                f"{emb_BD.shape[1]}: set neck.embedding_dim={teacher_BD.shape[1]}, or choose another teacher"
            )
        return (1 - F.cosine_similarity(emb_BD, teacher_BD, dim=1)).mean()
