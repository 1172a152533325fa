"""Class centres: the weights of the last layer, one row per identity.

Letters: C classes, K sub-centres per class, D embedding dimensions.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

from facerec.core.errors import ConfigError

ROWS_PER_BLOCK = 1024
"""Number of rows that share one random stream. Changing it changes every initial centre."""

_STREAM = 0x43454E54  # separates these streams from others that are drawn with the same seed


class ClassCentres(nn.Module):
    """The class centres W, and the biases of a plain softmax.

    Row j starts as a pure function of (seed, j, embedding_dim), drawn from N(0, init_std^2). It does not depend on the
    number of classes, the dtype or the device. Under `torch.device("meta")` nothing is drawn; call `reset_parameters`
    after `to_empty`.

    Args:
        num_classes: C, at least 2.
        embedding_dim: D.
        init_std: standard deviation of every initial entry (0.01 in InsightFace).
        seed: not negative.
        num_sub_centres: K; the sub-centres of class j are the rows j K .. j K + K - 1, as in arcface_torch.
        bias: True if each class also has a bias, which starts at 0.
        shard: the classes whose centres this process holds; None for all.

    Attributes:
        classes: the classes held here, c of them.
        weight: parameter (c * K, D).
        bias: parameter (c,), or None.

    Raises:
        ConfigError: an argument is missing or out of range.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        *,
        num_classes: int | None,
        embedding_dim: int,
        init_std: float = 0.01,
        seed: int = 0,
        num_sub_centres: int = 1,
        bias: bool = False,
        shard: range | None = None,
    ) -> None:
        super().__init__()
        if num_classes is None:
            raise ConfigError(
                "head.num_classes is null; expected the number of identities of the training set: "
                "`facerec train` fills it in; in your own code, pass it"
            )
        if num_classes < 2:
            raise ConfigError(f"head.num_classes is {num_classes}; expected at least 2 identities to distinguish")
        if embedding_dim < 1:
            raise ConfigError(f"head.embedding_dim is {embedding_dim}; expected the output size of the network")
        if not 0 < init_std < float("inf"):
            raise ConfigError(f"head.init_std is {init_std}; expected a positive number, for example 0.01")
        if seed < 0:
            raise ConfigError(f"head.seed is {seed}; expected 0 or more")
        if num_sub_centres < 1:
            raise ConfigError(f"head.num_sub_centres is {num_sub_centres}; expected 1 or more, 3 in sub-centre ArcFace")
        self.num_classes = num_classes
        self.num_sub_centres = num_sub_centres
        self.embedding_dim = embedding_dim
        self.init_std = init_std
        self.seed = seed
        self.classes = range(num_classes) if shard is None else shard
        self.weight = nn.Parameter(torch.empty(len(self.classes) * num_sub_centres, embedding_dim))
        self.register_parameter("bias", nn.Parameter(torch.empty(len(self.classes))) if bias else None)
        self.reset_parameters()

    def local(self, labels: torch.Tensor) -> torch.Tensor:
        """Maps labels among all classes to positions among the classes held here, -1 for other classes."""
        if len(self.classes) == self.num_classes:
            return labels
        here = (labels >= self.classes.start) & (labels < self.classes.stop)
        return torch.where(here, labels - self.classes.start, -1)

    def keep(self, shard: range) -> None:
        """Keeps the centres of these classes only; all of them are held here now."""
        first, last = shard.start - self.classes.start, shard.stop - self.classes.start
        rows = slice(first * self.num_sub_centres, last * self.num_sub_centres)
        self.classes = shard
        self.weight = nn.Parameter(self.weight.detach()[rows].clone())
        if self.bias is not None:
            self.bias = nn.Parameter(self.bias.detach()[first:last].clone())

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the initial centres and sets the biases to 0; does nothing on the meta device."""
        if self.weight.is_meta:
            return
        first_row = self.classes.start * self.num_sub_centres
        fill_initial_rows(self.weight, first_row=first_row, std=self.init_std, seed=self.seed)
        if self.bias is not None:
            self.bias.zero_()

    def extra_repr(self) -> str:
        return (
            f"num_classes={self.num_classes}, embedding_dim={self.embedding_dim}, "
            f"num_sub_centres={self.num_sub_centres}, bias={self.bias is not None}"
        )


def fill_initial_rows(rows_RD: torch.Tensor, *, first_row: int, std: float, seed: int) -> None:
    """Fills `rows_RD` (R, D) in place with the initial centres of the global rows first_row .. first_row + R - 1.

    Each block of `ROWS_PER_BLOCK` global rows has its own Philox stream, so any range of rows can be drawn without the
    rows before its first block, and the result does not depend on the number of threads. The numbers are drawn in fp32
    on the CPU, for any dtype and device.
    """
    rows_RD = rows_RD.detach()  # the threads below do not inherit no_grad
    num_rows, embedding_dim = rows_RD.shape
    end_row = first_row + num_rows

    def fill_block(start: int) -> None:
        sequence = np.random.SeedSequence(seed, spawn_key=(_STREAM, start // ROWS_PER_BLOCK))
        generator = np.random.Generator(np.random.Philox(sequence))
        stop = min(start + ROWS_PER_BLOCK, end_row)
        values = generator.standard_normal((stop - start, embedding_dim), dtype=np.float32)
        values *= std
        wanted = values[max(first_row - start, 0) :]
        rows_RD[stop - len(wanted) - first_row : stop - first_row].copy_(torch.from_numpy(wanted))

    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
        list(pool.map(fill_block, range(first_row - first_row % ROWS_PER_BLOCK, end_row, ROWS_PER_BLOCK)))
