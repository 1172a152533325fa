"""The objective passes the head's loss on and adds what a log shows."""

import pytest
import torch

from facerec.heads.head import MarginHead
from facerec.losses.objective import Objective


def test_objective_passes_the_head_through_and_logs_loss_and_angle():
    head = MarginHead(num_classes=3, embedding_dim=2, m2=0.5)
    with torch.no_grad():
        head.centres.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    emb_BD, labels_B = torch.tensor([[2.0, 0.0], [1.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 1, 2])
    output, from_head = Objective(head=head)(emb_BD, labels_B), head(emb_BD, labels_B)
    assert torch.equal(output.loss, from_head.loss) and output.loss.requires_grad
    assert torch.equal(output.sample_losses_B, from_head.sample_losses_B)
    assert torch.equal(output.target_cos_B, torch.tensor([1.0, 0.0, -1.0]))
    assert output.logs["target_angle_deg"].item() == pytest.approx(90.0)  # the mean of 0, 90 and 180
    assert output.logs["loss"].item() == output.loss.item()
    assert not any(value.requires_grad for value in output.logs.values())
