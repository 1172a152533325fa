"""One optimizer step: accumulation, batch norm, dropout, ramp, rates, clipping, number formats."""

import math

import numpy as np
import pytest
import torch

from facerec.core.metric import values_of
from facerec.core.seeding import torch_seed_of
from facerec.heads.combined import MarginHead
from facerec.runs.run_log import read_metrics
from facerec.training.optimizer import SGD
from facerec.training.schedule import StepDecay
from tests.noise_source import NoiseSource
from tests.unit.training.trainers import Accuracy, PlainNet, largest_relative_difference, parameters_of, start_at_scale


@pytest.mark.parametrize("clip", [None, 0.5])
def test_accumulated_micro_batches_equal_the_global_batch(clip, make_trainer):
    trained = []
    for micro_batch_size in (32, 8):
        trainer = make_trainer(
            f"micro{micro_batch_size}",
            network=PlainNet(),
            source=NoiseSource(num_classes=5, images_per_class=10, size_px=16),
            global_batch_size=32,
            micro_batch_size=micro_batch_size,
            precision="fp64",
            num_steps=6,
            clip_grad_norm=clip,
        )
        trainer.fit()
        trained.append((parameters_of(trainer), read_metrics(trainer.run_log.metrics_path)))
    (whole, whole_lines), (parts, parts_lines) = trained
    assert largest_relative_difference(parts, whole) < 1e-12
    assert largest_relative_difference(parts, parameters_of(make_trainer(network=PlainNet()))) > 1e-3
    for name in ("train/loss", "train/target_angle_deg", "train/grad_norm", "train/lr", "train/epoch"):
        expected = [line[name] for line in whole_lines]
        assert [line[name] for line in parts_lines] == pytest.approx(expected, rel=1e-6 if "angle" in name else 1e-12)


def test_a_step_is_the_gradient_of_the_mean_loss_with_momentum_and_schedule(make_trainer):
    trainer = make_trainer(
        network=PlainNet(), precision="fp64", num_steps=3, optimizer=SGD(lr=0.1, momentum=0.7, weight_decay=0.01)
    )
    batches = list(trainer.loader.batches(first_step=0, end_step=3))
    trainer.fit()
    network = PlainNet().double()
    head = MarginHead(num_classes=5, embedding_dim=32, m2=0.3, scale=16.0).double()
    tensors = [*network.parameters(), *head.parameters()]
    velocities = [torch.zeros_like(tensor) for tensor in tensors]
    for step, batch in enumerate(batches):
        loss = head(network(network.input_spec.normalise(batch.images, dtype=torch.float64)), batch.labels).loss
        gradients = torch.autograd.grad(loss, tensors)
        with torch.no_grad():
            for tensor, velocity, gradient in zip(tensors, velocities, gradients, strict=True):
                velocity.mul_(0.7).add_(gradient + 0.01 * tensor)
                tensor.sub_(0.1 * (1 - step / 3) * velocity)
    expected = network.state_dict() | {f"head.{name}": value for name, value in head.state_dict().items()}
    assert largest_relative_difference(parameters_of(trainer), expected) < 1e-12


def test_running_statistics_follow_micro_batch_0_of_each_step(make_trainer):
    trainer = make_trainer(global_batch_size=8, micro_batch_size=4, num_steps=3, optimizer=SGD(lr=0.0))
    stem = trainer.network.backbone.bn1
    mean, var = torch.zeros(16), torch.ones(16)
    for batch in trainer.loader.batches(first_step=0, end_step=3):
        if batch.micro_index == 0:
            with torch.no_grad():
                features = trainer.network.backbone.conv1(trainer.network.input_spec.normalise(batch.images))
            mean = 0.9 * mean + 0.1 * features.mean((0, 2, 3))
            var = 0.9 * var + 0.1 * features.var((0, 2, 3))
    trainer.fit()
    torch.testing.assert_close(stem.running_mean, mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(stem.running_var, var, rtol=1e-5, atol=1e-6)
    assert stem.num_batches_tracked.item() == 3
    batch_norms = trainer.optimizer_step.batch_norms
    assert all(module.track_running_stats for module in batch_norms) and len(batch_norms) > 20


def test_dropout_of_a_micro_batch_is_keyed_by_seed_step_and_index(make_trainer):
    def masks(run: str, **parts) -> list[torch.Tensor]:
        trainer = make_trainer(run, micro_batch_size=4, dropout=0.4, num_steps=2, **parts)
        seen = []
        trainer.network.neck.fc.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0] == 0))
        trainer.fit()
        return seen

    found = masks("a")
    expected = []
    for step, micro_index in ((0, 0), (0, 1), (1, 0), (1, 1)):
        torch.manual_seed(torch_seed_of("forward", 1, step, micro_index))
        expected.append(torch.dropout(torch.ones(4, 128, 1, 1), 0.4, train=True).flatten(1) == 0)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(found, masks("b", seed=2), strict=True))
    assert not torch.equal(found[0], found[1])


def test_margin_grows_linearly_over_the_ramp_and_stays(make_trainer):
    trainer = make_trainer(num_steps=7, margin_ramp_epochs=2.0)  # 20 samples / 8: 5 steps
    margins = []
    trainer.objective.register_forward_hook(lambda module, *_: margins.append(module.head.margin_fraction))
    trainer.fit()
    assert margins == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0], abs=1e-15)


def test_rates_and_decays_are_those_of_the_configuration(make_trainer):
    trainer = make_trainer(
        num_steps=5,
        optimizer=SGD(lr=0.04, momentum=0.37, weight_decay=0.123),
        schedule=StepDecay(milestones_epochs=[0.8, 1.6], gamma=0.5, warmup_steps=1),
    )
    trainer.fit()
    lines = read_metrics(trainer.run_log.metrics_path)
    assert [line["train/lr"] for line in lines] == pytest.approx([0.02, 0.04, 0.02, 0.02, 0.01])
    groups = trainer.state.optimizer.param_groups
    assert all((group["momentum"], group["weight_decay"]) == (0.37, 0.123) for group in groups)
    names = {name for group in groups for name in group["names"]}
    assert "objective.head.centres.weight" in names and "backbone.conv1.weight" in names
    assert "neck.features.weight" not in names and "neck.features.bias" in names


def test_clipping_covers_the_network_and_not_the_head(make_trainer):
    def gradients(run: str, clip: float | None) -> tuple[torch.Tensor, torch.Tensor, float]:
        trainer = make_trainer(run, num_steps=1, clip_grad_norm=clip, optimizer=SGD(lr=0.1, weight_decay=0.0))
        trainer.fit()
        state = trainer.state.optimizer.state  # after one step the momentum is the gradient
        network = torch.cat([state[p]["momentum_buffer"].flatten() for p in trainer.network.parameters() if p in state])
        (line,) = read_metrics(trainer.run_log.metrics_path)
        return network, state[trainer.objective.head.centres.weight]["momentum_buffer"], line["train/grad_norm"]

    free, free_head, free_norm = gradients("free", None)
    clipped, clipped_head, clipped_norm = gradients("clipped", 0.01)
    assert free.norm().item() == pytest.approx(free_norm, rel=1e-4) and free_norm > 1
    assert clipped_norm == free_norm  # what is logged is the norm before
    assert clipped.norm().item() == pytest.approx(0.01, rel=1e-4)
    torch.testing.assert_close(clipped * (free_norm / 0.01), free, rtol=1e-3, atol=1e-6 * free_norm)
    assert torch.equal(clipped_head, free_head)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_autocast_gives_finite_losses_that_fall_and_fp32_weights(precision, channels_last, make_trainer):
    trainer = make_trainer(precision=precision, channels_last=channels_last, num_steps=12, micro_batch_size=4)
    trainer.fit()
    losses = [line["train/loss"] for line in read_metrics(trainer.run_log.metrics_path)]
    assert all(math.isfinite(loss) for loss in losses) and np.mean(losses[-3:]) < losses[0]
    assert all(value.dtype in (torch.float32, torch.int64) for value in parameters_of(trainer).values())
    assert trainer.state.scaler.is_enabled() == (precision == "fp16")
    exact = make_trainer("exact", num_steps=1, micro_batch_size=4)
    exact.fit()
    assert losses[0] == pytest.approx(read_metrics(exact.run_log.metrics_path)[0]["train/loss"], rel=0.02)


def test_fp16_skips_the_step_whose_gradient_overflows_and_lowers_the_scale(make_trainer):
    trainer = make_trainer(precision="fp16", num_steps=1, optimizer=SGD(lr=0.1))
    before = parameters_of(trainer)
    start_at_scale(trainer, 2.0**60)
    trainer.fit()
    after = parameters_of(trainer)
    assert torch.equal(after["conv1.weight"], before["conv1.weight"])
    assert torch.equal(after["head.centres.weight"], before["head.centres.weight"])
    assert trainer.state.scaler.get_scale() == 2.0**59


def test_fp64_stays_fp64_and_is_evaluated(make_trainer, tmp_path):
    evaluator = Accuracy([0.5])
    trainer = make_trainer(precision="fp64", num_steps=2, evaluators=[evaluator])
    seen = []
    trainer.network.register_forward_hook(lambda _module, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    result = trainer.fit()
    assert set(seen) == {(torch.float64, torch.float64)}
    assert {value.dtype for value in parameters_of(trainer).values()} == {torch.float64, torch.int64}
    assert evaluator.shapes == [(2, 32)]
    assert values_of(result.metrics) == {"eval/fake/accuracy": 0.5}
