"""Terms on angles: Intra pulls embeddings to their class centres, Inter pushes the centres apart.

Letters: B samples, C classes, D embedding dimensions, R classes of a chunk.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch.autograd.function import once_differentiable

from facerec.core.errors import ConfigError
from facerec.heads.margins import MIN_SIN
from facerec.losses.term import Term, TermInputs

Energy = Literal["angle", "mhe"]

MIN_SQUARED_DISTANCE = 1e-4
"""Floor of the squared distance of two unit vectors in the hyperspherical energy: fp32 cosines are no finer."""

ELEMENTS_PER_CHUNK = 1 << 22
"""Cosines between centres that are held at a time."""


def angle_rad(cos: torch.Tensor) -> torch.Tensor:
    """arccos in radians, any shape, of cosines clamped to [-1, 1].

    Values are exact. The gradient is -1 / sin(theta), with the sine clamped at `MIN_SIN`, so it is finite at cos = +-1.
    """
    return _Angle.apply(cos)


class Intra(Term):
    """(1 / (pi B)) sum theta_yi: the mean angle between embeddings and their class centres (arXiv 1801.07698).

    Args:
        weight: the coefficient in the objective.
    """

    needs_head = True

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__(weight=weight)

    def forward(self, inputs: TermInputs) -> torch.Tensor:
        """Scalar, in 0 .. 1; its gradient reaches the embeddings and the centres."""
        assert inputs.target_cos_B is not None  # the objective refuses the term without a head
        return angle_rad(inputs.target_cos_B).mean() / math.pi


class Inter(Term):
    """Pushes the class centres of the batch away from all other centres. Its gradient reaches all centres.

    Both energies are means over the samples i and all classes j != y_i of a function of the angle theta between the
    centres W_yi and W_j. They are computed in chunks of classes, forward and once more backward, so that the batch x
    classes matrix is never held.

    Args:
        weight: the coefficient in the objective.
        energy: "angle", -theta / pi: the Inter-Loss of arXiv 1801.07698. "mhe", 1 / |w_yi - w_j|^2 of the unit centres
            (s = 2): the minimum hyperspherical energy of arXiv 1805.09298, as its SphereFace+ takes it.

    Raises:
        ConfigError: an unknown energy.
    """

    needs_head = True
    moves_all_centres = True

    def __init__(self, *, weight: float = 1.0, energy: Energy = "angle") -> None:
        super().__init__(weight=weight)
        if energy not in get_args(Energy):
            raise ConfigError(f"energy={energy!r} for Inter; expected one of {', '.join(get_args(Energy))}")
        self.energy = energy

    def forward(self, inputs: TermInputs) -> torch.Tensor:
        """Scalar: in -1 .. 0 for "angle", positive for "mhe".

        Raises:
            ConfigError: the head has several centres per class.
        """
        assert inputs.centres is not None  # the objective refuses the term without a head
        if inputs.centres.num_sub_centres != 1:
            raise ConfigError(
                f"Inter is the angle between the centres of two classes, but head.num_sub_centres="
                f"{inputs.centres.num_sub_centres}: use one centre per class, or leave inter out of loss=[...]"
            )
        return _MeanEnergy.apply(inputs.centres.weight, inputs.labels_B, _ENERGIES[self.energy])

    def extra_repr(self) -> str:
        return f"weight={self.weight}, energy={self.energy}"


class _Angle(torch.autograd.Function):
    """arccos with a clamped slope: autograd's own divides by 0 at cos = +-1."""

    @staticmethod
    def forward(cos: torch.Tensor) -> torch.Tensor:
        return cos.clamp(-1, 1).acos()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (cos,) = ctx.saved_tensors
        return grad * _slope_of_angle(cos)


def _slope_of_angle(cos: torch.Tensor) -> torch.Tensor:
    cos = cos.clamp(-1, 1)
    # near +-1, 1 - c^2 would lose half of the digits that (1 - c)(1 + c) keeps
    return -1 / ((1 - cos) * (1 + cos)).sqrt().clamp(min=MIN_SIN)


class _AngleEnergy:
    """-theta / pi."""

    @staticmethod
    def value(cos: torch.Tensor) -> torch.Tensor:
        return cos.clamp(-1, 1).acos() / -math.pi

    @staticmethod
    def slope(cos: torch.Tensor) -> torch.Tensor:
        return _slope_of_angle(cos) / -math.pi


class _HypersphericalEnergy:
    """1 / |a - b|^2 of two unit vectors; |a - b|^2 = 2 - 2 cos."""

    @staticmethod
    def value(cos: torch.Tensor) -> torch.Tensor:
        return 1 / (2 - 2 * cos).clamp(min=MIN_SQUARED_DISTANCE)

    @staticmethod
    def slope(cos: torch.Tensor) -> torch.Tensor:
        return 2 / (2 - 2 * cos).clamp(min=MIN_SQUARED_DISTANCE).square()


_ENERGIES = {"angle": _AngleEnergy, "mhe": _HypersphericalEnergy}


class _MeanEnergy(torch.autograd.Function):
    """Mean over i and j != y_i of energy(cos(W_yi, W_j)), chunk by chunk over j; the backward computes cosines anew."""

    @staticmethod
    def forward(weight_CD: torch.Tensor, labels_B: torch.Tensor, energy: Any) -> torch.Tensor:
        dtype = torch.promote_types(weight_CD.dtype, torch.float32)
        own_BD, _ = _unit(weight_CD[labels_B].to(dtype))
        sum_B = own_BD.new_zeros(len(labels_B))
        for first, rows_RD in _chunks(weight_CD, len(labels_B)):
            unit_RD, _ = _unit(rows_RD.to(dtype))
            energy_BR = energy.value(own_BD @ unit_RD.T)
            sum_B += energy_BR.masked_fill_(_is_own(labels_B, first, len(rows_RD)), 0).sum(dim=1)
        return sum_B.mean() / (len(weight_CD) - 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, torch.Tensor, Any], output: torch.Tensor) -> None:
        weight_CD, labels_B, ctx.energy = inputs
        ctx.save_for_backward(weight_CD, labels_B)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        weight_CD, labels_B = ctx.saved_tensors
        own_BD, own_norm_B1 = _unit(weight_CD[labels_B].to(grad.dtype))
        factor = grad / (len(labels_B) * (len(weight_CD) - 1))
        grad_CD = torch.empty_like(weight_CD)
        grad_own_BD = torch.zeros_like(own_BD)
        for first, rows_RD in _chunks(weight_CD, len(labels_B)):
            unit_RD, norm_R1 = _unit(rows_RD.to(grad.dtype))
            slope_BR = ctx.energy.slope(own_BD @ unit_RD.T).mul_(factor)
            slope_BR.masked_fill_(_is_own(labels_B, first, len(rows_RD)), 0)
            grad_own_BD.addmm_(slope_BR, unit_RD)
            grad_CD[first : first + len(rows_RD)] = _through_unit(slope_BR.T @ own_BD, unit_RD, norm_R1)
        grad_CD.index_add_(0, labels_B, _through_unit(grad_own_BD, own_BD, own_norm_B1).to(grad_CD.dtype))
        return grad_CD, None, None


def _chunks(weight_CD: torch.Tensor, batch_size: int) -> Iterator[tuple[int, torch.Tensor]]:
    """The number of the first class, and the centres, of every chunk."""
    classes_per_chunk = max(1, ELEMENTS_PER_CHUNK // batch_size)
    for first in range(0, len(weight_CD), classes_per_chunk):
        yield first, weight_CD[first : first + classes_per_chunk]


def _is_own(labels_B: torch.Tensor, first: int, num_classes: int) -> torch.Tensor:
    """bool (B, R): where the class of a chunk is the sample's own."""
    return labels_B[:, None] == torch.arange(first, first + num_classes, device=labels_B.device)


def _unit(rows_RD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of length 1, and the lengths they had (R, 1)."""
    norm_R1 = rows_RD.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return rows_RD / norm_R1, norm_R1


def _through_unit(grad_RD: torch.Tensor, unit_RD: torch.Tensor, norm_R1: torch.Tensor) -> torch.Tensor:
    """From the gradient of rows of length 1 to that of the rows before they were divided by their length."""
    return (grad_RD - unit_RD * (grad_RD * unit_RD).sum(dim=1, keepdim=True)) / norm_R1
