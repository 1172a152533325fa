"""Intra is the mean angle to the own centre, Inter minus the mean angle between centres, in chunks of classes."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from facerec.core.errors import ConfigError
from facerec.heads.centres import ClassCentres
from facerec.losses import angular_terms
from facerec.losses.angular_terms import MIN_SQUARED_DISTANCE, Inter, Intra, angle_rad
from facerec.losses.term import TermInputs
from facerec.processes.group import Processes
from tests.unit.losses.term_inputs import at_angles, term_inputs

F64 = torch.float64


def test_intra_is_the_mean_angle_over_pi():
    inputs = term_inputs(5 * at_angles([30, 60, 180]), [0, 1, 2], weight_CD=at_angles([0, 0, 0]))
    assert Intra()(inputs).item() == pytest.approx((30 + 60 + 180) / 3 / 180, abs=1e-12)


def test_inter_is_minus_the_mean_angle_of_the_batch_s_centres_to_all_others():
    inputs = term_inputs(at_angles([0, 0, 0]), [0, 0, 2], weight_CD=3 * at_angles([0, 30, 120, 200]))
    to_others = [30 + 120 + 160] * 2 + [120 + 90 + 80]
    assert Inter()(inputs).item() == pytest.approx(-sum(to_others) / 9 / 180, abs=1e-12)


def test_hyperspherical_energy_is_the_mean_inverse_squared_distance():
    inputs = term_inputs(at_angles([0, 0]), [0, 1], weight_CD=7 * at_angles([0, 60, 180]))
    # squared chords: 60 degrees 1, 120 degrees 3, 180 degrees 4
    assert Inter(energy="mhe")(inputs).item() == pytest.approx((1 + 1 / 4 + 1 + 1 / 3) / 4, rel=1e-12)


@pytest.mark.parametrize("energy", ["angle", "mhe"])
def test_a_step_down_the_gradient_spreads_the_centres(energy):
    inputs = term_inputs(at_angles([0]), [0], weight_CD=at_angles([0, 20, 90]))
    weight_CD = inputs.centres.weight
    Inter(energy=energy)(inputs).backward()
    moved_CD = weight_CD.detach() - 0.01 * weight_CD.grad
    before, after = weight_CD.detach()[0], moved_CD[0]
    for other in (1, 2):
        cos_before = torch.cosine_similarity(before, weight_CD.detach()[other], dim=0)
        assert torch.cosine_similarity(after, moved_CD[other], dim=0) < cos_before


@pytest.mark.parametrize("energy", ["angle", "mhe"])
@pytest.mark.parametrize("elements", [1, 10, 7 * 4, 1000])
def test_chunks_change_neither_value_nor_gradient(energy, elements, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    weight_CD = torch.randn(13, 5, dtype=F64, generator=generator)
    labels = [0, 12, 5, 5, 3, 7, 1]

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        inputs = term_inputs(torch.ones(7, 5, dtype=F64), labels, weight_CD=weight_CD)
        value = Inter(energy=energy)(inputs)
        return value, torch.autograd.grad(3 * value, inputs.centres.weight)[0]

    whole, grad_CD = run()
    monkeypatch.setattr(angular_terms, "ELEMENTS_PER_CHUNK", elements)
    in_chunks, grad_in_chunks_CD = run()
    torch.testing.assert_close(in_chunks, whole, rtol=1e-13, atol=0)
    torch.testing.assert_close(grad_in_chunks_CD, grad_CD, rtol=1e-12, atol=1e-15)


def test_inter_never_holds_batch_times_classes(monkeypatch):
    monkeypatch.setattr(angular_terms, "ELEMENTS_PER_CHUNK", 32 * 64)
    inputs = term_inputs(torch.ones(32, 4), torch.arange(32), weight_CD=torch.randn(5000, 4))
    with _LargestTensor() as largest:
        Inter()(inputs).backward()
    assert largest.numel == 5000 * 4  # the centres and their gradient; batch x classes would be 160,000


def test_what_shards_of_centres_send_does_not_depend_on_the_number_of_classes():
    sent = []

    class FirstOfTwo(Processes):
        """Sees the other process as its double."""

        def gather(self, tensor: torch.Tensor) -> torch.Tensor:
            sent.append(tensor.numel())
            return torch.cat([tensor, tensor])

        def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
            sent.append(tensor.numel())
            return tensor

    centres = ClassCentres(num_classes=5000, embedding_dim=4, shard=range(2500))
    labels_B = torch.arange(8)
    inputs = TermInputs(
        emb_BD=torch.ones(8, 4),
        labels_B=labels_B,
        images=torch.zeros(8, 4, 4, 3, dtype=torch.uint8),
        target_cos_B=torch.ones(8),
        centres=centres,
    )
    term = Inter()
    term.processes = FirstOfTwo(rank=0, world_size=2)
    term(inputs).backward()
    # labels, own centres and sums of energies; the factors and the gradients of the own centres
    assert sent == [8, 16 * 4, 16, 8, 16 * 4]


def test_inter_refuses_heads_with_several_centres_per_class():
    inputs = TermInputs(
        emb_BD=torch.ones(2, 4),
        labels_B=torch.tensor([0, 1]),
        images=torch.zeros(2, 4, 4, 3, dtype=torch.uint8),
        target_cos_B=torch.ones(2),
        centres=ClassCentres(num_classes=3, embedding_dim=4, num_sub_centres=2),
    )
    with pytest.raises(ConfigError, match=r"head\.num_sub_centres=2"):
        Inter()(inputs)


def test_angles_have_exact_values_and_finite_gradients_at_both_ends():
    epsilon = torch.finfo(torch.float32).eps
    cos = torch.tensor([1 + epsilon, 1.0, 0.5, -1.0, -1 - epsilon], requires_grad=True)
    angle = angle_rad(cos)
    (grad,) = torch.autograd.grad(angle.sum(), cos)
    assert angle.tolist() == pytest.approx([0, 0, math.pi / 3, math.pi, math.pi], abs=1e-6)
    assert grad.tolist() == pytest.approx([-1000, -1000, -1 / math.sin(math.pi / 3), -1000, -1000], rel=1e-6)


@pytest.mark.parametrize("energy", ["angle", "mhe"])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_centres_that_coincide_or_oppose_have_finite_gradients(energy, dtype):
    inputs = term_inputs(at_angles([0, 0], dtype=dtype), [0, 1], weight_CD=at_angles([0, 0, 180, 40], dtype=dtype))
    value = Inter(energy=energy)(inputs)
    (grad_CD,) = torch.autograd.grad(value, inputs.centres.weight)
    assert value.isfinite() and grad_CD.isfinite().all()
    if energy == "mhe":  # one other centre of three at the floor of the distance
        assert value.item() == pytest.approx(1 / MIN_SQUARED_DISTANCE / 3, rel=1e-3)


def test_unknown_energy_and_negative_weights_are_refused():
    with pytest.raises(ConfigError, match="energy='cosine' for Inter; expected one of angle, mhe"):
        Inter(energy="cosine")
    with pytest.raises(ConfigError, match=r"weight=-1\.0 for Intra"):
        Intra(weight=-1.0)


class _LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result
