"""Terms on angles: Intra pulls embeddings to their class centres, Inter pushes the centres apart.

Letters: B samples of this process, N samples of all processes that share the centres, C classes, c of them held here,
D embedding dimensions, R classes of a chunk.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch.autograd.function import once_differentiable

from facerec.core.errors import ConfigError
from facerec.heads.centres import ClassCentres
from facerec.heads.margins import clamped_sin
from facerec.losses.term import Term, TermInputs
from facerec.processes.group import ALONE, Processes, this_process

Energy = Literal["angle", "mhe"]

MIN_SQUARED_DISTANCE = 1e-4
"""Minimum of the squared distance of two unit vectors in the hyperspherical energy: fp32 cosines are not finer."""

ELEMENTS_PER_CHUNK = 1 << 22
"""Number of cosines between centres that are held in memory together."""


def angle_rad(cos: torch.Tensor) -> torch.Tensor:
    """Returns arccos in radians, any shape, of cosines clamped to [-1, 1].

    Values are exact. The gradient is -1 / sin(theta), with a sine of at least 1e-3, so it is finite at cos = +-1.
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
        """Returns a scalar in 0 .. 1; its gradient reaches the embeddings and the centres."""
        assert inputs.target_cos_B is not None  # the objective refuses the term without a head
        return angle_rad(inputs.target_cos_B).mean() / math.pi


class Inter(Term):
    """Pushes the class centres of the batch away from all other centres. Its gradient reaches all centres.

    Both energies are means over the samples i and all classes j != y_i of a function of the angle theta between the
    centres W_yi and W_j. They are computed in chunks of classes, in the forward and again in the backward pass, so that
    the (batch, classes) matrix is never held. If the centres are sharded, the W_yi of all samples are gathered, and
    every process compares them with its own centres.

    Args:
        weight: the coefficient in the objective.
        energy: "angle": -theta / pi, the Inter-Loss of arXiv 1801.07698. "mhe": 1 / |w_yi - w_j|^2 of the unit centres
            (s = 2), the minimum hyperspherical energy of arXiv 1805.09298, as in its SphereFace+.

    Raises:
        ConfigError: the energy is unknown.
    """

    needs_head = True
    moves_all_centres = True

    def __init__(self, *, weight: float = 1.0, energy: Energy = "angle") -> None:
        super().__init__(weight=weight)
        if energy not in get_args(Energy):
            raise ConfigError(f"energy={energy!r} for Inter; expected one of {', '.join(get_args(Energy))}")
        self.energy = energy
        self.processes = this_process()

    def forward(self, inputs: TermInputs) -> torch.Tensor:
        """Returns a scalar: in -1 .. 0 for "angle", positive for "mhe".

        Raises:
            ConfigError: the head has several centres per class.
        """
        assert inputs.centres is not None  # the objective refuses the term without a head
        if inputs.centres.num_sub_centres != 1:
            raise ConfigError(
                f"Inter is the angle between the centres of two classes, but head.num_sub_centres="
                f"{inputs.centres.num_sub_centres}: use one centre per class, or remove inter from loss=[...]"
            )
        is_sharded = len(inputs.centres.classes) < inputs.centres.num_classes
        holders = self.processes if is_sharded else ALONE
        return _MeanEnergy.apply(
            inputs.centres.weight, inputs.labels_B, inputs.centres, _ENERGIES[self.energy], holders
        )

    def extra_repr(self) -> str:
        return f"weight={self.weight}, energy={self.energy}"


class _Angle(torch.autograd.Function):
    """arccos with a clamped slope, because autograd's own divides by 0 at cos = +-1."""

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
    return -1 / clamped_sin(cos.clamp(-1, 1))


class _AngleEnergy:
    """-theta / pi."""

    @staticmethod
    def value(cos: torch.Tensor) -> torch.Tensor:
        return cos.clamp(-1, 1).acos() / -math.pi

    @staticmethod
    def slope(cos: torch.Tensor) -> torch.Tensor:
        return _slope_of_angle(cos) / -math.pi


class _HypersphericalEnergy:
    """Computes 1 / |a - b|^2 of two unit vectors; |a - b|^2 = 2 - 2 cos."""

    @staticmethod
    def value(cos: torch.Tensor) -> torch.Tensor:
        return 1 / (2 - 2 * cos).clamp(min=MIN_SQUARED_DISTANCE)

    @staticmethod
    def slope(cos: torch.Tensor) -> torch.Tensor:
        return 2 / (2 - 2 * cos).clamp(min=MIN_SQUARED_DISTANCE).square()


_ENERGIES = {"angle": _AngleEnergy, "mhe": _HypersphericalEnergy}


class _MeanEnergy(torch.autograd.Function):
    """The mean over i and j != y_i of energy(cos(W_yi, W_j)), chunk by chunk over j; backward computes cosines again.

    The processes `holders` have the centres: each sums over its own classes j, for the samples of all.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight_cD: torch.Tensor,
        labels_B: torch.Tensor,
        centres: ClassCentres,
        energy: Any,
        holders: Processes,
    ) -> torch.Tensor:
        dtype = torch.promote_types(weight_cD.dtype, torch.float32)
        labels_N = centres.local(holders.gather(labels_B))
        centres_ND = holders.sum_(_rows(weight_cD, labels_N).to(dtype))
        own_ND, _ = _unit(centres_ND)
        sum_N = own_ND.new_zeros(len(labels_N))
        for first, rows_RD in _chunks(weight_cD, len(labels_N)):
            unit_RD, _ = _unit(rows_RD.to(dtype))
            energy_NR = energy.value(own_ND @ unit_RD.T)
            sum_N += energy_NR.masked_fill_(_is_own(labels_N, first, len(rows_RD)), 0).sum(dim=1)
        ctx.save_for_backward(weight_cD, labels_N, centres_ND)
        ctx.energy, ctx.holders, ctx.num_others = energy, holders, centres.num_classes - 1
        return holders.own_part(holders.sum_(sum_N)).mean() / ctx.num_others

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        weight_cD, labels_N, centres_ND = ctx.saved_tensors
        own_ND, own_norm_N1 = _unit(centres_ND)
        batch_size = len(labels_N) // ctx.holders.world_size
        factor_N1 = ctx.holders.gather((grad / (batch_size * ctx.num_others)).expand(batch_size, 1))
        grad_cD = torch.empty_like(weight_cD)
        grad_own_ND = torch.zeros_like(own_ND)
        for first, rows_RD in _chunks(weight_cD, len(labels_N)):
            unit_RD, norm_R1 = _unit(rows_RD.to(grad.dtype))
            slope_NR = ctx.energy.slope(own_ND @ unit_RD.T).mul_(factor_N1)
            slope_NR.masked_fill_(_is_own(labels_N, first, len(rows_RD)), 0)
            grad_own_ND.addmm_(slope_NR, unit_RD)
            grad_cD[first : first + len(rows_RD)] = _through_unit(slope_NR.T @ own_ND, unit_RD, norm_R1)
        grad_own_ND = _through_unit(ctx.holders.sum_(grad_own_ND), own_ND, own_norm_N1)
        _add_rows(grad_cD, labels_N, grad_own_ND)
        return grad_cD, None, None, None, None


def _rows(rows_cD: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """Returns the row of every label (N, D), 0 for the labels -1."""
    if len(rows_cD) == 0:
        return rows_cD.new_zeros(len(labels_N), rows_cD.shape[1])
    return rows_cD[labels_N.clamp(min=0)].masked_fill(labels_N[:, None] < 0, 0)


def _add_rows(rows_cD: torch.Tensor, labels_N: torch.Tensor, added_ND: torch.Tensor) -> None:
    """Adds to the row of every label, in place; skips the labels -1."""
    if len(rows_cD) > 0:
        added_ND = added_ND.masked_fill(labels_N[:, None] < 0, 0)
        rows_cD.index_add_(0, labels_N.clamp(min=0), added_ND.to(rows_cD.dtype))


def _chunks(weight_cD: torch.Tensor, num_samples: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Yields the number of the first class, and the centres, of every chunk."""
    classes_per_chunk = max(1, ELEMENTS_PER_CHUNK // num_samples)
    for first in range(0, len(weight_cD), classes_per_chunk):
        yield first, weight_cD[first : first + classes_per_chunk]


def _is_own(labels_N: torch.Tensor, first: int, num_classes: int) -> torch.Tensor:
    """Returns True where the class of a chunk is the sample's own: bool (N, R)."""
    return labels_N[:, None] == torch.arange(first, first + num_classes, device=labels_N.device)


def _unit(rows_RD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns rows of norm 1, and their original norms (R, 1)."""
    norm_R1 = rows_RD.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return rows_RD / norm_R1, norm_R1


def _through_unit(grad_RD: torch.Tensor, unit_RD: torch.Tensor, norm_R1: torch.Tensor) -> torch.Tensor:
    """Converts the gradient of the normalised rows to that of the original rows."""
    return (grad_RD - unit_RD * (grad_RD * unit_RD).sum(dim=1, keepdim=True)) / norm_R1
