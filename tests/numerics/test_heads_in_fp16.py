"""Every head in configs/head through the trainer in fp16 with the gradient scaler."""

import math

import torch

from facerec.runs.run_log import read_metrics
from facerec.training.optimizer import SGD
from tests.unit.training.trainers import EMBEDDING_DIM, build_trainer, parameters_of

NUM_STEPS = 16


def test_training_in_fp16_stays_finite_and_moves(head_config, build, tmp_path):
    head = build(head_config, num_classes=5, embedding_dim=EMBEDDING_DIM)
    trainer = build_trainer(tmp_path, head=head, precision="fp16", num_steps=NUM_STEPS, optimizer=SGD(lr=0.02))
    before = parameters_of(trainer)
    num_threads = torch.get_num_threads()
    trainer.fit()
    torch.set_num_threads(num_threads)
    losses = [line["train/loss"] for line in read_metrics(trainer.run_log.metrics_path)]
    after = parameters_of(trainer)
    assert len(losses) == NUM_STEPS and all(math.isfinite(loss) for loss in losses)
    assert all(value.isfinite().all() for value in after.values())
    num_skipped = math.log2(2**16 / trainer.state.scaler.get_scale())  # every skipped step halves the scale
    assert num_skipped <= NUM_STEPS / 2
    assert not torch.equal(after["conv1.weight"], before["conv1.weight"])
    assert not torch.equal(after["head.centres.weight"], before["head.centres.weight"])
