"""The objective adds the head's loss and the weighted terms, and passes on what a log and the guard need."""

from functools import partial

import pytest
import torch

from facerec.core.errors import ConfigError
from facerec.heads.combined import MarginHead
from facerec.heads.initial_loss import initial_loss
from facerec.heads.row_optimizer import RowSGD
from facerec.losses.angular_terms import Inter, Intra
from facerec.losses.centre_loss import CentreLoss
from facerec.losses.objective import Objective
from facerec.losses.term import Term, TermInputs
from facerec.losses.triplet import Triplet
from tests.unit.losses.term_inputs import at_angles

EMB_BD = torch.tensor([[2.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
LABELS_B = torch.tensor([0, 1, 2])
IMAGES = torch.zeros(3, 4, 4, 3, dtype=torch.uint8)


class Norm(Term):
    """The mean length of the embeddings; keeps what it was given and when."""

    def __init__(self, *, weight: float) -> None:
        super().__init__(weight=weight)
        self.calls: list[object] = []

    def forward(self, inputs: TermInputs) -> torch.Tensor:
        self.inputs = inputs
        self.calls.append("forward")
        return inputs.emb_BD.norm(dim=1).mean()

    def start_step(self, step: int) -> None:
        self.calls.append(step)

    def end_step(self) -> None:
        self.calls.append("end")


def head_on_axes() -> MarginHead:
    head = MarginHead(num_classes=3, embedding_dim=2, m2=0.5)
    with torch.no_grad():
        head.centres.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    return head


def test_objective_passes_the_head_through_and_logs_loss_and_angle():
    head = head_on_axes()
    output, from_head = Objective(head=head)(EMB_BD, LABELS_B, IMAGES), head(EMB_BD, LABELS_B)
    assert torch.equal(output.loss, from_head.loss) and output.loss.requires_grad
    assert torch.equal(output.sample_losses_B, from_head.sample_losses_B)
    assert torch.equal(output.target_cos_B, torch.tensor([1.0, 0.0, -1.0])) and not output.target_cos_B.requires_grad
    assert output.logs["target_angle_deg"].item() == pytest.approx(90.0)  # the mean of 0, 90 and 180
    assert output.logs["loss"].item() == output.loss.item()
    assert set(output.logs) == {"loss", "target_angle_deg"}
    assert not any(value.requires_grad for value in output.logs.values())


def test_terms_are_added_with_their_weights_and_logged_without():
    head = head_on_axes()
    objective = Objective(head=head, terms={"intra": Intra(weight=4.0), "norm": Norm(weight=0.5)})
    output, softmax = objective(EMB_BD, LABELS_B, IMAGES), head(EMB_BD, LABELS_B)
    assert output.loss.item() == pytest.approx(softmax.loss.item() + 4 * 0.5 + 0.5 * 2, rel=1e-6)
    expected = {"softmax": softmax.loss.item(), "term/intra": 0.5, "term/norm": 2.0, "loss": output.loss.item()}
    assert {name: value.item() for name, value in output.logs.items()} == pytest.approx(
        expected | {"target_angle_deg": 90.0}, rel=1e-6
    )
    assert not any(value.requires_grad for value in output.logs.values())
    assert output.sample_losses_B.mean().item() == pytest.approx(output.loss.item(), rel=1e-6)
    assert not output.sample_losses_B.requires_grad


def test_gradient_is_the_weighted_sum_of_the_parts():
    emb_BD = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def gradients(*terms: str, with_head: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        head = head_on_axes().double()
        every = {"intra": Intra(weight=0.7), "inter": Inter(weight=3.0)}
        loss = Objective(head=head, terms={name: every[name] for name in terms})(emb_BD, LABELS_B, IMAGES).loss
        return torch.autograd.grad(loss, (emb_BD, head.centres.weight))

    softmax, intra, inter, both = (gradients(*names) for names in ((), ("intra",), ("inter",), ("intra", "inter")))
    for part in range(2):
        expected = intra[part] + inter[part] - softmax[part]
        torch.testing.assert_close(both[part], expected, rtol=1e-12, atol=1e-14)
    assert not torch.equal(intra[0], softmax[0])  # the target cosine carries a gradient to the embeddings
    assert not torch.equal(intra[1], softmax[1]) and not torch.equal(inter[1], softmax[1])


def test_terms_see_the_micro_batch():
    head, term = head_on_axes(), Norm(weight=1.0)
    images = torch.arange(3 * 48).reshape(3, 4, 4, 3).to(torch.uint8)
    Objective(head=head, terms={"norm": term})(EMB_BD, LABELS_B, images)
    inputs = term.inputs
    assert torch.equal(inputs.emb_BD, EMB_BD) and torch.equal(inputs.labels_B, LABELS_B)
    assert inputs.images is images and inputs.centres is head.centres
    assert inputs.target_cos_B.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_terms_compute_in_fp32_under_autocast(dtype):
    emb_BD = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels_B = torch.tensor([0, 0, 1, 1, 2, 2])
    terms = {"triplet": Triplet(), "inter": Inter(), "centre_loss": CentreLoss(num_classes=3, embedding_dim=8)}
    objective = Objective(head=MarginHead(num_classes=3, embedding_dim=8), terms=terms)
    expected = objective(emb_BD.float(), labels_B, IMAGES)
    with torch.autocast("cpu", dtype=dtype):
        output = objective(emb_BD, labels_B, IMAGES)
    for name in ("triplet", "inter", "centre_loss"):
        assert output.logs[f"term/{name}"].dtype == torch.float32
        assert torch.equal(output.logs[f"term/{name}"], expected.logs[f"term/{name}"])
    assert output.sample_losses_B.dtype == torch.float32


def test_objective_without_a_head_is_its_terms():
    emb_BD = at_angles([0, 40, 50], dtype=torch.float32).requires_grad_()
    objective = Objective(head=None, terms={"triplet": Triplet(weight=2.0, margin_rad=0.1)})
    objective.start_step(0, margin_fraction=1.0, labels_of_step=torch.tensor([0, 0, 1]))
    output = objective(emb_BD, torch.tensor([0, 0, 1]), IMAGES)
    objective.end_step()
    hinges = [torch.tensor(deg).deg2rad().item() + 0.1 for deg in (40.0 - 50.0, 40.0 - 10.0)]
    assert output.loss.item() == pytest.approx(2 * (max(0, hinges[0]) + hinges[1]) / 2, rel=1e-5)
    assert output.sample_losses_B.tolist() == [output.loss.item()] * 3
    assert output.target_cos_B is None and set(output.logs) == {"loss", "term/triplet"}
    assert objective.expected_initial_loss() is None
    assert torch.autograd.grad(output.loss, emb_BD)[0].abs().sum() > 0


def test_a_term_that_is_not_finite_shows_in_the_losses_of_the_samples():
    class Broken(Norm):
        def forward(self, inputs: TermInputs) -> torch.Tensor:
            return inputs.emb_BD.sum() * torch.inf

    output = Objective(head=head_on_axes(), terms={"broken": Broken(weight=1.0)})(EMB_BD, LABELS_B, IMAGES)
    assert not output.sample_losses_B.isfinite().any()


def test_steps_reach_the_head_and_every_term():
    head, term = head_on_axes(), Norm(weight=1.0)
    objective = Objective(head=head, terms={"norm": term})
    objective.start_step(7, margin_fraction=0.0, labels_of_step=LABELS_B)
    without_margin = objective(EMB_BD, LABELS_B, IMAGES).logs["softmax"]
    objective.end_step()
    assert term.calls == [7, "forward", "end"]
    objective.start_step(8, margin_fraction=1.0, labels_of_step=LABELS_B)
    assert objective(EMB_BD, LABELS_B, IMAGES).logs["softmax"] > without_margin
    assert objective.expected_initial_loss() == initial_loss(head)


def test_a_term_that_moves_all_centres_is_refused_where_only_drawn_ones_move():
    head = MarginHead(num_classes=3, embedding_dim=2)
    head.train_rows(partial(RowSGD, momentum=0.9))
    step = {"margin_fraction": 1.0, "labels_of_step": LABELS_B}
    Objective(head=head, terms={"intra": Intra()}).start_step(0, **step)
    with pytest.raises(ConfigError, match=r"loss\.inter updates all class centres.*head\.sample_rate"):
        Objective(head=head, terms={"inter": Inter()}).start_step(0, **step)


def test_rate_and_scale_reach_the_head():
    head = MarginHead(num_classes=3, embedding_dim=2)
    head.train_rows(partial(RowSGD, momentum=0.0))
    before = head.centres.weight.clone()
    moved = []
    for grad_scale, skipped in ((1.0, False), (4.0, False), (1.0, True)):
        with torch.no_grad():
            head.centres.weight.copy_(before)
        objective = Objective(head=head, terms={"intra": Intra()})
        objective.start_step(0, margin_fraction=1.0, labels_of_step=LABELS_B, lr=0.1)
        objective(EMB_BD, LABELS_B, IMAGES).loss.backward()
        objective.end_step(grad_scale=grad_scale, skipped=skipped)
        moved.append(head.centres.weight - before)
    assert moved[0].abs().max() > 0 and not moved[2].any()
    torch.testing.assert_close(4 * moved[1], moved[0], rtol=1e-4, atol=1e-7)


def test_state_of_head_and_terms_is_saved_under_their_names():
    objective = Objective(head=head_on_axes(), terms={"centre_loss": CentreLoss(num_classes=3, embedding_dim=2)})
    assert {"head.centres.weight", "terms.centre_loss.centres"} <= set(objective.state_dict())
    assert [name for name, _ in objective.named_parameters()] == ["head.centres.weight"]


def test_nothing_to_train_on_and_terms_that_miss_their_head_are_refused():
    with pytest.raises(ConfigError, match="no head and no loss"):
        Objective(head=None)
    with pytest.raises(ConfigError, match=r"loss\.inter needs the class centres .* choose a head"):
        Objective(head=None, terms={"triplet": Triplet(), "inter": Inter()})
