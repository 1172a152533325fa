"""Heads: class centres, a margin and an engine tied into the module that turns embeddings and labels into a loss.

Letters: B samples, C classes, D embedding dimensions.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from facerec.core.errors import ConfigError, DataError
from facerec.heads.centres import ClassCentres
from facerec.heads.engines import dense
from facerec.heads.margins import BeyondPi, CombinedMargin


@dataclass(frozen=True, kw_only=True)
class HeadOutput:
    """What every head returns for a micro-batch of B samples.

    Attributes:
        loss: scalar, the mean over the samples, with gradient; fp32, or fp64 for fp64 inputs.
        target_cos_B: fp32 (B,), the cosine between each embedding and its class centre, in [-1, 1], detached.
        sample_losses_B: (B,), detached.
    """

    loss: torch.Tensor
    target_cos_B: torch.Tensor
    sample_losses_B: torch.Tensor


class MarginHead(nn.Module):
    """Softmax over scaled cosines with the combined margin cos(m1 theta + m2) - m3 on the target.

    Args:
        num_classes: C; None stands in the configuration until the data set is known, and is refused here.
        embedding_dim: D.
        m1, m2, m3, beyond_pi: see `CombinedMargin`.
        scale: s, the length that logits are given, > 0.
        seed, init_std: of the initial class centres, see `ClassCentres`.

    Raises:
        ConfigError: an argument is out of range; or beyond_pi="linear" with margins for which the fallback lies
            above the curve that it continues.
    """

    def __init__(
        self,
        *,
        num_classes: int | None,
        embedding_dim: int = 512,
        m1: float = 1.0,
        m2: float = 0.0,
        m3: float = 0.0,
        scale: float = 64.0,
        beyond_pi: BeyondPi = "monotone",
        seed: int = 0,
        init_std: float = 0.01,
    ) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise ConfigError(f"head.scale is {scale}; expected a positive number, for example 64")
        self.scale = scale
        self.margin = CombinedMargin(m1=m1, m2=m2, m3=m3, beyond_pi=beyond_pi)
        _check_fallback(self.margin)
        self._full_margin = self.margin
        self.centres = ClassCentres(num_classes=num_classes, embedding_dim=embedding_dim, init_std=init_std, seed=seed)

    def forward(self, emb_BD: torch.Tensor, labels_B: torch.Tensor) -> HeadOutput:
        """Embeddings (B, D), any floating type and length, and int64 labels (B,) -> `HeadOutput`.

        Raises:
            ConfigError: the embeddings do not have D dimensions.
            DataError: a label is not in 0 .. C - 1.
        """
        _check_inputs(emb_BD, labels_B, self.centres)
        output = dense(emb_BD, self.centres.weight, labels_B, margin=self.margin, scale=self.scale)
        return HeadOutput(
            loss=output.loss,
            target_cos_B=output.target_cos_B.float().clamp(-1, 1),
            sample_losses_B=output.sample_losses_B,
        )

    def set_margin_fraction(self, fraction: float) -> None:
        """Uses `fraction` (0 .. 1) of the margins from now on. Not part of the state: it follows from the step."""
        _check_fraction(fraction)
        self.margin = self._full_margin.scaled(fraction)

    def expected_initial_loss(self) -> float:
        """The loss of random embeddings under random centres with the present margin, for many classes.

        Cosines are then N(0, 1/D), so logsumexp z = ln(C - 1) + s^2 / (2D) and t = s psi(0); for ArcFace the loss
        is s sin(m) + ln C + s^2 / (2D). The mean of exp(s cos) never exceeds exp(s), which matters for small D.
        """
        negatives = math.log(self.centres.num_classes - 1)
        negatives += min(self.scale**2 / (2 * self.centres.embedding_dim), self.scale)
        target = self.scale * self.margin.target(torch.zeros((), dtype=torch.float64)).item()
        return _softplus(negatives - target)

    def extra_repr(self) -> str:
        return f"{self._full_margin}, scale={self.scale}"


class SoftmaxHead(nn.Module):
    """Plain softmax over W x + b: no normalisation, no margin, no scale.

    Args:
        num_classes: C; None stands in the configuration until the data set is known, and is refused here.
        embedding_dim: D.
        seed, init_std: of the initial class centres, see `ClassCentres`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self, *, num_classes: int | None, embedding_dim: int = 512, seed: int = 0, init_std: float = 0.01
    ) -> None:
        super().__init__()
        self.centres = ClassCentres(
            num_classes=num_classes, embedding_dim=embedding_dim, init_std=init_std, seed=seed, bias=True
        )

    def forward(self, emb_BD: torch.Tensor, labels_B: torch.Tensor) -> HeadOutput:
        """As `MarginHead.forward`."""
        _check_inputs(emb_BD, labels_B, self.centres)
        weight_CD, bias = self.centres.weight, self.centres.bias
        output = dense(emb_BD, weight_CD, labels_B, margin=CombinedMargin(), scale=1.0, bias=bias, normalise=False)
        with torch.no_grad():
            target_cos_B = F.cosine_similarity(emb_BD.float(), weight_CD[labels_B].float())
        return HeadOutput(
            loss=output.loss, target_cos_B=target_cos_B.clamp(-1, 1), sample_losses_B=output.sample_losses_B
        )

    def set_margin_fraction(self, fraction: float) -> None:
        """Any fraction of no margin is no margin."""
        _check_fraction(fraction)

    def expected_initial_loss(self) -> float:
        """The loss of embeddings with unit variance per dimension under random centres, for many classes."""
        logit_variance = self.centres.init_std**2 * self.centres.embedding_dim
        return _softplus(math.log(self.centres.num_classes - 1) + logit_variance / 2)


def _check_inputs(emb_BD: torch.Tensor, labels_B: torch.Tensor, centres: ClassCentres) -> None:
    if emb_BD.ndim != 2 or emb_BD.shape[1] != centres.embedding_dim:
        raise ConfigError(
            f"head.embedding_dim is {centres.embedding_dim}, but the network gives embeddings of shape "
            f"{tuple(emb_BD.shape)}; expected (batch, {centres.embedding_dim}): give both the same size"
        )
    if emb_BD.device.type != "cpu":
        return  # a look would wait for the device in every step; the sources check their labels
    lowest, highest = torch.stack(labels_B.aminmax()).tolist()
    if lowest < 0 or highest >= centres.num_classes:
        label = lowest if lowest < 0 else highest
        raise DataError(
            f"label {label} in the batch; head.num_classes is {centres.num_classes}, so labels are 0 .. "
            f"{centres.num_classes - 1}: check the labels of the data set, or set head.num_classes to fit it"
        )


def _check_fraction(fraction: float) -> None:
    if not 0 <= fraction <= 1:
        raise ConfigError(f"the margin fraction is {fraction}; expected 0 (no margin) .. 1 (the whole margin)")


def _check_fallback(margin: CombinedMargin) -> None:
    """Refuses beyond_pi="linear" where psi would jump up at m1 theta + m2 = pi and reward the wrong side."""
    start_rad = (math.pi - margin.m2) / margin.m1
    if margin.beyond_pi != "linear" or not 0 <= start_rad <= math.pi:
        return
    jump = math.cos(start_rad) - margin.m2 * math.sin(margin.m2) + 1
    if jump > 1e-9:
        raise ConfigError(
            f"head.beyond_pi is 'linear' with m1={margin.m1}, m2={margin.m2}: the target logit would jump up by "
            f"{jump:.3f} at {math.degrees(start_rad):.0f} degrees; use head.beyond_pi=monotone, or m1=1"
        )


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
