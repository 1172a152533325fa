"""Trainings on a CUDA device that is not there: two steps and a checkpoint, then a third step from that checkpoint."""

import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from facerec.heads.options import UnscaledOptions
from facerec.losses.objective import Objective
from facerec.training.checkpoint import CheckpointStore
from facerec.training.optimizer import SGD, AdamW
from tests.gpu.fake_cuda import fake_cuda
from tests.numerics.conftest import HEAD_CONFIGS, build, read_head_config
from tests.numerics.term_configs import TERMS, build_term
from tests.unit.data.augment.test_device_augment import ALL as DEVICE_TRANSFORMS
from tests.unit.training.trainers import EMBEDDING_DIM, Accuracy, PlainNet, build_trainer, small_network

NUM_CLASSES = 5
ENGINES = [name for name in get_args(get_type_hints(UnscaledOptions)["engine"]) if name != "auto"]
Case = tuple[str, dict[str, Any], dict[str, Any]]
"""A name, what is changed in the configuration of a head, and arguments of `train`."""


def heads() -> Iterator[Case]:
    """Every head in configs/head with every engine; each head in fp32 and in bf16."""
    for path in HEAD_CONFIGS:
        for engine, precision in zip(ENGINES, ["fp32", "bf16"] * len(ENGINES), strict=False):
            config = read_head_config(path) | {"engine": engine}
            yield f"{path.stem}, {engine}, {precision}", config, {"precision": precision}


def options() -> Iterator[Case]:
    """What changes the way of a tensor: every engine and precision, sampled centres, row optimizers, every loss."""
    optimizers = {"sgd": SGD(lr=0.1), "adamw": AdamW(lr=1e-3)}
    fused = {"fused sgd": SGD(lr=0.1, fused_centres=True), "fused adamw": AdamW(lr=1e-3, fused_centres=True)}
    for path in HEAD_CONFIGS:
        config = read_head_config(path)
        for engine in ENGINES:
            for precision in ("fp32", "bf16", "fp16"):
                yield f"{path.stem}, {engine}, {precision}", config | {"engine": engine}, {"precision": precision}
            for name, optimizer in optimizers.items():
                change = {"engine": engine, "sample_rate": 0.4}
                yield f"{path.stem}, {engine}, sampled, {name}", config | change, {"optimizer": optimizer}
        if path.stem in ("arcface", "softmax", "subcentre_arcface"):
            for name, optimizer in fused.items():
                yield f"{path.stem}, {name}", config | {"engine": "chunked"}, {"optimizer": optimizer}
            for engine in ENGINES:
                for mode in ("drop", "zero"):
                    yield f"{path.stem}, {engine}, {mode}", config | {"engine": engine, "inter_class_filter": mode}, {}
                yield f"{path.stem}, {engine}, smooth", config | {"engine": engine, "label_smoothing": 0.1}, {}
    arcface = read_head_config(next(path for path in HEAD_CONFIGS if path.stem == "arcface"))
    for engine in ENGINES:
        yield f"scale, {engine}", arcface | {"engine": engine, "learn_scale": True}, {}
    yield "class means", arcface | {"init": "class_mean"}, {}
    yield "augmented on the device", arcface, {"on_device": DEVICE_TRANSFORMS}
    yield "iresnet, adamw", arcface, {"network": small_network, "optimizer": optimizers["adamw"], "precision": "bf16"}
    yield "iresnet, average, fp16", arcface, {"network": small_network, "ema_decay": 0.9, "precision": "fp16"}
    for name in TERMS:
        yield f"loss {name}", arcface, {"term": name}


def error_of(config: Mapping[str, Any], parts: dict[str, Any]) -> str | None:
    """The error of a training, with the lines of facerec that it came through."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            train(Path(folder), dict(config), parts)
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/facerec/" in frame.filename]
        where = "; ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.line}" for frame in frames[-3:])
        return f"{type(error).__name__}: {str(error)[:300]} ({where})"
    return None


def train(folder: Path, config: dict[str, Any], parts: dict[str, Any]) -> None:
    """Trains as in the first lines of this file.

    Args:
        folder: of the run.
        config: of the head.
        parts: see `build_trainer`; "term" names a loss beside the head, "network" is called for one.
    """
    parts = dict(parts)
    make_network, term = parts.pop("network", PlainNet), parts.pop("term", None)
    # MPS has no float64; GradScaler, which fp16 needs, knows that itself
    has_float64 = parts.get("precision") == "fp16"
    store, checkpoint = _CheckpointsInMemory(), None
    for num_steps in (2, 3):
        trainer = build_trainer(
            folder,
            head=build(config, num_classes=NUM_CLASSES, embedding_dim=EMBEDDING_DIM),
            network=make_network(),
            checkpoints=store,
            evaluators=[Accuracy([0.5])],
            clip_grad_norm=5.0,
            resume_from=checkpoint,
            num_steps=num_steps,
            device="cuda",
            **parts,
        )
        if term is not None:
            built = build_term(term, num_classes=NUM_CLASSES, embedding_dim=EMBEDDING_DIM)
            if term == "triplet":
                built._look = lambda: None  # at whether there is a triplet, for which a true condition is an error
            trainer.objective = Objective(head=trainer.objective.head, terms={term: built})
        with fake_cuda(has_float64=has_float64):
            result = trainer.fit()
        assert result.step == num_steps and trainer.objective.head.centres.weight.is_cuda
        checkpoint = result.checkpoint


class _CheckpointsInMemory(CheckpointStore):
    """Keeps the newest checkpoint: tensors without values cannot be written to a disk."""

    def __init__(self) -> None:
        super().__init__(in_background=False)

    def _write(self, path: Path, content: Any, stored: dict[str, Any], processes: Any) -> None:
        self.content, self.stored = content, stored

    def restore(self, path: Path, state: Any) -> dict[str, Any]:
        state.restore(self.content.model, self.content.tensors, self.content.values)
        return self.stored
