"""Centre loss: pulls embeddings to the moving mean of their class, with its own centres.

Letters: B samples, C classes, D embedding dimensions, N classes of a global batch.
"""

import torch

from facerec.core.errors import ConfigError
from facerec.losses.term import Term, TermInputs
from facerec.processes.group import this_process


class CentreLoss(Term):
    """(1 / B) sum |x_i - c_yi|^2 / 2 (Wen et al., ECCV 2016, equation 2), on embeddings that are not normalised.

    The paper sums this loss and the softmax over the batch; here both are means, so the paper's lambda is `weight`.
    The centres start at 0 and are constant within a step. At the end of the step, every class of the global batch, with
    n_j samples, is updated by equation 4: c_j <- c_j - alpha * sum_{y_i = j} (c_j - x_i) / (1 + n_j). Every process
    holds all centres, and updates them from the samples of all processes.

    Args:
        weight: the coefficient in the objective, 0.003 in the paper.
        alpha: how far a centre moves, 0 .. 1.
        num_classes: C; None is for configurations before the data set is known, and is refused here.
        embedding_dim: D.

    Attributes:
        centres: buffer (C, D).

    Raises:
        ConfigError: an argument is missing or out of range.
    """

    centres: torch.Tensor

    def __init__(
        self, *, weight: float = 0.003, alpha: float = 0.5, num_classes: int | None, embedding_dim: int = 512
    ) -> None:
        super().__init__(weight=weight)
        if not 0 <= alpha <= 1:
            raise ConfigError(f"alpha={alpha} for CentreLoss; expected 0 .. 1, for example 0.5")
        if num_classes is None:
            raise ConfigError(
                "num_classes is null for CentreLoss; expected the number of identities of the training set: "
                "`facerec train` fills it in; in your own code, pass it"
            )
        self.alpha = alpha
        self.processes = this_process()
        self.register_buffer("centres", torch.zeros(num_classes, embedding_dim))
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, inputs: TermInputs) -> torch.Tensor:
        """Returns a scalar; its gradient reaches the embeddings.

        Raises:
            ConfigError: the embeddings do not have D dimensions.
        """
        emb_BD, labels_B = inputs.emb_BD, inputs.labels_B
        if emb_BD.shape[1] != self.centres.shape[1]:
            raise ConfigError(
                f"embedding_dim={self.centres.shape[1]} for CentreLoss, but the network gives embeddings of "
                f"{emb_BD.shape[1]} dimensions: give both the same size"
            )
        self._seen.append((labels_B, emb_BD.detach()))
        return (emb_BD - self.centres[labels_B]).square().sum(dim=1).mean() / 2

    def start_step(self, step: int) -> None:
        """Forgets the samples of a step that was not finished."""
        self._seen = []

    @torch.no_grad()
    def end_step(self) -> None:
        """Updates the centres of the step's classes."""
        labels_B, emb_BD = (self.processes.gather(torch.cat(parts)) for parts in zip(*self._seen, strict=True))
        self._seen = []
        classes_N, class_of_B, counts_N = labels_B.unique(return_inverse=True, return_counts=True)
        centres_ND, counts_N1 = self.centres[classes_N], counts_N[:, None]
        sums_ND = torch.zeros_like(centres_ND).index_add_(0, class_of_B, emb_BD.to(centres_ND.dtype))
        self.centres[classes_N] = centres_ND - self.alpha * (counts_N1 * centres_ND - sums_ND) / (1 + counts_N1)

    def extra_repr(self) -> str:
        return f"weight={self.weight}, alpha={self.alpha}, num_classes={len(self.centres)}"
