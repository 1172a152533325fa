"""What a training that begins from weights does before its first step, and rates by part, through the whole loop."""

import numpy as np
import pytest
import torch

from facerec.core.metric import values_of
from facerec.embedding.network_embedder import NetworkEmbedder
from facerec.heads.combined import MarginHead
from facerec.runs.run_log import read_metrics
from facerec.training.class_means import start_at_class_means
from facerec.training.optimizer import SGD
from facerec.training.schedule import StepDecay
from tests.noise_source import NoiseSource
from tests.unit.training.trainers import EMBEDDING_DIM, SIZE_PX, Accuracy, parameters_of, same_bits, stopping_at


def head() -> MarginHead:
    return MarginHead(num_classes=5, embedding_dim=EMBEDDING_DIM, m2=0.3, scale=16.0, init="class_mean")


def test_fresh_run_starts_at_the_class_means_and_a_resumed_one_where_it_stood(make_trainer):
    whole = make_trainer("whole", head=head(), num_steps=4)
    expected = head().centres
    network = whole.network
    start_at_class_means(
        expected,
        embed=NetworkEmbedder(network=network, input_spec=network.input_spec),
        source=NoiseSource(num_classes=5, images_per_class=4, size_px=SIZE_PX),
        batch_size=8,
    )
    seen = []
    whole.objective.head.register_forward_pre_hook(
        lambda module, _: seen.append(module.centres.weight.detach().clone())
    )
    whole.fit()
    torch.testing.assert_close(seen[0], expected.weight.detach(), rtol=1e-5, atol=1e-7)
    stopped = stopping_at(make_trainer("stopped", head=head(), num_steps=4), 3 + 1).fit()  # 3 batches of class means
    assert stopped.step == 2
    resumed = make_trainer("stopped", head=head(), num_steps=4, resume_from=stopped.checkpoint)
    resumed.fit()
    assert same_bits(parameters_of(resumed), parameters_of(whole))


def test_loss_at_the_class_means_is_far_below_that_of_random_centres(make_trainer):
    losses = []
    for run, parts in (("random", {}), ("means", {"head": head()})):
        trainer = make_trainer(run, num_steps=1, **parts)
        trainer.network.eval()
        trainer.fit()
        losses.append(read_metrics(trainer.run_log.metrics_path)[0]["train/loss"])
    assert losses[1] < 0.7 * losses[0]


def test_starting_model_is_evaluated_as_step_0_and_not_again_when_resumed(make_trainer):
    parts = {"num_steps": 3, "eval_at_start": True}
    first = make_trainer(evaluators=[Accuracy([0.25])], **parts)
    embeddings = []
    first.network.register_forward_hook(lambda _module, _inputs, output: embeddings.append(output))
    reference = NetworkEmbedder(network=first.network, input_spec=first.network.input_spec)
    expected = reference(np.zeros((2, SIZE_PX, SIZE_PX, 3), dtype=np.uint8))
    embeddings.clear()
    stopped = stopping_at(first, 2).fit()
    np.testing.assert_allclose(embeddings[0].numpy(), expected, rtol=1e-4, atol=1e-5)  # the layout is another
    resumed = make_trainer(evaluators=[Accuracy([0.75])], resume_from=stopped.checkpoint, **parts)
    result = resumed.fit()
    assert values_of(result.metrics) == {"eval/fake/accuracy": 0.75}
    lines = read_metrics(resumed.run_log.metrics_path)
    assert [(line["step"], line.get("eval/fake/accuracy")) for line in lines] == [
        (0, 0.25), (1, None), (2, None), (3, None), (3, 0.75),
    ]  # fmt: skip


def test_signal_during_the_first_evaluation_leaves_a_checkpoint_that_evaluates_again(make_trainer):
    stopped = stopping_at(make_trainer(evaluators=[Accuracy([0.25])], eval_at_start=True), 0).fit()
    assert (stopped.step, stopped.finished) == (0, False)
    resumed = make_trainer(evaluators=[Accuracy([0.3, 0.75])], eval_at_start=True, resume_from=stopped.checkpoint)
    resumed.fit()
    lines = [line for line in read_metrics(resumed.run_log.metrics_path) if "eval/fake/accuracy" in line]
    assert [(line["step"], line["eval/fake/accuracy"]) for line in lines] == [(0, 0.3), (4, 0.75)]


def test_evaluation_at_the_start_does_not_change_what_is_trained(make_trainer):
    plain, watched = make_trainer("plain", dropout=0.4), make_trainer(
        "watched", dropout=0.4, evaluators=[Accuracy([0.1] * 2)], eval_at_start=True
    )  # fmt: skip
    for trainer in (plain, watched):
        trainer.fit()
    assert same_bits(parameters_of(watched), parameters_of(plain))


def test_schedule_multiplies_the_rate_of_every_part_and_the_base_rate_is_logged(make_trainer):
    trainer = make_trainer(
        num_steps=3,
        optimizer=SGD(lr=0.04, lr_factors={"backbone": 0.5, "head": 2.0}),
        schedule=StepDecay(milestones_steps=[2], gamma=0.1),
    )
    rates, update = [], trainer.objective.end_step

    def end_step(**scaling) -> None:
        update(**scaling)
        rates.append({group["lr_factor"]: group["lr"] for group in trainer.state.optimizer.param_groups})

    trainer.objective.end_step = end_step
    trainer.fit()
    assert rates[0] == pytest.approx({0.5: 0.02, 1.0: 0.04, 2.0: 0.08})
    assert rates[2] == pytest.approx({0.5: 0.002, 1.0: 0.004, 2.0: 0.008})
    lines = read_metrics(trainer.run_log.metrics_path)
    assert [line["train/lr"] for line in lines] == pytest.approx([0.04, 0.04, 0.004])


def test_first_step_of_a_part_is_scaled_by_its_factor(make_trainer):
    def moved(run: str, lr_factors) -> dict[str, torch.Tensor]:
        trainer = make_trainer(run, num_steps=1, precision="fp64", optimizer=SGD(lr=0.01, lr_factors=lr_factors))
        before = parameters_of(trainer)
        trainer.fit()
        return {name: value - before[name] for name, value in parameters_of(trainer).items() if value.ndim > 1}

    plain, scaled = moved("plain", {}), moved("scaled", {"backbone": 0.1, "backbone.layer4": 1.0, "head": 5.0})
    for name, value in scaled.items():
        is_backbone = name.startswith(("conv1", "layer1", "layer2", "layer3"))
        factor = 0.1 if is_backbone else 5.0 if name.startswith("head.") else 1.0
        torch.testing.assert_close(value, factor * plain[name], rtol=1e-7, atol=1e-14)
