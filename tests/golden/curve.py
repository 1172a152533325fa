"""Twenty steps of training through the whole loop, in numbers that every machine agrees on.

All of it is in fp64, the initial weights too: a difference of 1e-7 grows to 1 in these steps, and torch draws normal
numbers in fp32 that differ by as much between processors. No JPEG decoder and no dropout take part, which differ
between builds of their libraries.
"""

import json
from functools import partial
from pathlib import Path

import torch

from facerec.core.input_spec import InputSpec
from facerec.core.seeding import torch_seed_of
from facerec.data.augment import Augment
from facerec.data.loader import BatchLoader
from facerec.embedding.network_embedder import NetworkEmbedder
from facerec.heads.combined import MarginHead
from facerec.losses.objective import Objective
from facerec.networks.embedding_net import EmbeddingNet, join
from facerec.networks.iresnet import IResNet
from facerec.networks.neck import BNDropoutFCBN
from facerec.runs.run_log import RunLog, read_metrics
from facerec.training.checkpoint import CheckpointStore
from facerec.training.optimizer import SGD
from facerec.training.schedule import Polynomial
from facerec.training.settings import EvaluationPlan, TrainerSettings
from facerec.training.trainer import Trainer
from tests.noise_source import NoiseSource

PATH = Path(__file__).with_name("curve.json")
FIGURES = ("train/loss", "train/target_angle_deg", "train/grad_norm", "train/lr")
SEED, NUM_STEPS, SIZE_PX = 1, 20, 32


def golden_curve(run_dir: Path) -> dict[str, list[float]]:
    """Trains in `run_dir`; returns each of `FIGURES` at each step."""
    source = NoiseSource(num_classes=6, images_per_class=8, size_px=SIZE_PX)
    run_log = RunLog(run_dir=run_dir, tensorboard=False)
    trainer = Trainer(
        network=_network(),
        objective=Objective(
            head=MarginHead(num_classes=source.num_classes, embedding_dim=64, m2=0.5, scale=64.0, seed=SEED)
        ),
        loader=BatchLoader(
            source=source,
            augment=Augment(transforms=[{"HorizontalFlip": {"p": 0.5}}]),
            global_batch_size=16,
            micro_batch_size=8,
            seed=SEED,
        ),
        optimizer=SGD(lr=0.005, momentum=0.9, weight_decay=5e-4),
        schedule=Polynomial(warmup_steps=4),
        settings=TrainerSettings(
            num_steps=NUM_STEPS,
            precision="fp64",
            device="cpu",
            clip_grad_norm=50.0,
            margin_ramp_epochs=4.0,
            num_threads=1,
        ),
        evaluation=EvaluationPlan(embedder=lambda net: NetworkEmbedder(network=net, input_spec=net.input_spec)),
        checkpoints=CheckpointStore(),
        run_log=run_log,
        log_every_steps=1,
        seed=SEED,
        about={},
    )
    trainer.fit()
    lines = read_metrics(run_log.metrics_path)
    return {figure: [line[figure] for line in lines] for figure in FIGURES}


def read_pinned() -> dict[str, list[float]]:
    """The pinned curve."""
    return json.loads(PATH.read_text())


def _network() -> EmbeddingNet:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(torch_seed_of("network", SEED))
        return join(
            backbone=IResNet(depth=18, width_multiplier=0.25),
            neck=partial(BNDropoutFCBN, embedding_dim=64),
            input_spec=InputSpec(height_px=SIZE_PX, width_px=SIZE_PX),
        )
    finally:
        torch.set_default_dtype(before)
