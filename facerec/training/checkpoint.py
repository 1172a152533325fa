"""Checkpoints: written whole or not at all, restored exactly, and pruned to the last and the best."""

import json
import shutil
import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from facerec.core.errors import CheckpointError, ConfigError
from facerec.core.manifest import read_manifest, whole_directory
from facerec.core.run_log import LOGGER
from facerec.networks.embedding_net import EmbeddingNet
from facerec.networks.weights import CARD_FILE, MODEL_FILE, newest_whole, step_directories
from facerec.training.moving_average import MovingAverage

STATE_TENSORS = "train_state/tensors.safetensors"
STATE_VALUES = "train_state/state.json"


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """The live objects that a checkpoint is taken from and restored into.

    Attributes:
        network, objective, optimizer, scaler: of the training.
        average: the moving average of the network; it is then the checkpoint's model, and the network that is trained
            lies in the training state.
        frozen: names of the parameters that stand still at first. The optimizer holds nothing for them until they move.
    """

    network: EmbeddingNet
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: MovingAverage | None = None
    frozen: Collection[str] = ()


class CheckpointStore:
    """The `checkpoints/` folder of a run: `step-<number>/` with the model, the training state and a manifest.

    Args:
        every_steps, every_epochs: how often to save, at most one of the two; a run always saves at its end.
        keep_last: how many of the newest to keep, at least 1.
        keep_best: how many of the best to keep beside them, by `best_metric`; only checkpoints of steps at which the
            benchmarks ran compete.
        best_metric: a figure that grows with quality, such as eval/lfw/accuracy; None takes the mean accuracy over
            all benchmarks.

    Raises:
        ConfigError: both intervals are set, or a number is out of range.
    """

    def __init__(
        self,
        *,
        every_steps: int | None = None,
        every_epochs: float | None = None,
        keep_last: int = 2,
        keep_best: int = 1,
        best_metric: str | None = None,
    ) -> None:
        check_interval("checkpoint", every_steps=every_steps, every_epochs=every_epochs)
        if keep_last < 1 or keep_best < 0:
            raise ConfigError(f"checkpoint.keep_last={keep_last}, keep_best={keep_best}; expected >= 1 and >= 0")
        self.every_steps = every_steps
        self.every_epochs = every_epochs
        self.keep_last = keep_last
        self.keep_best = keep_best
        self.best_metric = best_metric

    def save(
        self,
        directory: Path,
        *,
        step: int,
        state: TrainState,
        about: Mapping[str, Any],
        metrics: Mapping[str, float],
        metrics_step: int | None,
    ) -> Path:
        """Saves the state after `step` optimizer steps under `directory`, then prunes. Returns where it lies.

        Args:
            directory: the run's `checkpoints/` folder.
            step: number of optimizer steps done.
            state: what to save.
            about: plain values for model.json and the manifest: trained_on, environment.
            metrics: the newest figures of the benchmarks.
            metrics_step: the step at which they were measured.

        Raises:
            CheckpointError: the disk is full or read-only; earlier checkpoints are untouched.
        """
        path = directory / f"step-{step:08d}"
        _set_aside(path)
        stored = {"step": step, "metrics": dict(metrics), "metrics_step": metrics_step, **about}
        with whole_directory(path, stored) as partial:
            (partial / "train_state").mkdir()
            model = state.network if state.average is None else state.average.network
            _write_tensors(model.state_dict(), partial / MODEL_FILE)
            fresh = metrics if metrics_step == step else {}
            thresholds = {key: value for key, value in fresh.items() if key.endswith("/threshold_cosine")}
            card = {**state.network.card(), **about, "step": step, "thresholds": thresholds}
            (partial / CARD_FILE).write_text(json.dumps(card, indent=1))
            tensors = _optimizer_tensors(state.optimizer)
            tensors |= {f"objective.{key}": value for key, value in state.objective.state_dict().items()}
            if state.average is not None:
                tensors |= {f"network.{key}": value for key, value in state.network.state_dict().items()}
            _write_tensors(tensors, partial / STATE_TENSORS)
            values = {"scaler": state.scaler.state_dict(), "step": step}
            (partial / STATE_VALUES).write_text(json.dumps(values))
        self._prune(directory, step)
        return path

    def newest(self, directory: Path) -> Path | None:
        """The newest whole checkpoint; each damaged one that is passed over is warned of."""
        path, warnings = newest_whole(directory)
        for warning in warnings:
            LOGGER.warning(warning)
        return path

    def restore(self, path: Path, state: TrainState) -> int:
        """Puts a checkpoint's tensors into the live objects. Returns the number of steps it had done.

        Raises:
            CheckpointError: the checkpoint is damaged, or belongs to a network or optimizer of another shape.
        """
        read_manifest(path)
        tensors = load_file(path / STATE_TENSORS)
        values = json.loads((path / STATE_VALUES).read_text())
        model = load_file(path / MODEL_FILE)
        try:
            if state.average is None:
                state.network.load_state_dict(model)
            else:
                state.average.network.load_state_dict(model)
                state.network.load_state_dict(_below("network.", tensors))
            state.objective.load_state_dict(_below("objective.", tensors))
            _restore_optimizer(state.optimizer, tensors, frozen=state.frozen)
            state.scaler.load_state_dict(values["scaler"])
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(
                f"{path} does not fit this run ({error}). Use another run_dir, or init_from={path} to start from its "
                "weights"
            ) from None
        return values["step"]

    def about(self, path: Path) -> dict[str, Any]:
        """What the manifest says beside the checksums: step, metrics, metrics_step, environment, trained_on.

        Raises as `restore`.
        """
        return read_manifest(path)

    def _prune(self, directory: Path, step: int) -> None:
        """Keeps the last and the best of the checkpoints up to `step`; later ones are damaged, and do not count."""
        paths = [path for path in step_directories(directory) if int(path.name.removeprefix("step-")) <= step]
        scores = {path: score for path in paths if (score := self._score(path)) is not None}
        best = sorted(scores, key=lambda path: (scores[path], path.name), reverse=True)
        keep = {*paths[-self.keep_last :], *best[: self.keep_best]}
        for path in paths:
            if path not in keep:
                with suppress(OSError):  # renamed first, so that a kill leaves no half of it under its name
                    path.rename(_new_name(path, "partial"))
        for path in directory.glob("step-*.partial-*"):  # those, and what killed runs left
            shutil.rmtree(path, ignore_errors=True)

    def _score(self, path: Path) -> float | None:
        """The figure by which a checkpoint competes; None where its figures were measured at an earlier step."""
        try:
            stored = json.loads((path / "manifest.json").read_text())
            metrics, is_fresh = stored["metrics"], stored["metrics_step"] == stored["step"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not is_fresh:
            return None
        if self.best_metric is not None:
            return metrics.get(self.best_metric)
        accuracies = [value for name, value in metrics.items() if name.endswith("/accuracy")]
        return sum(accuracies) / len(accuracies) if accuracies else None


def check_interval(section: str, *, every_steps: int | None, every_epochs: float | None) -> None:
    """Refuses two intervals at once, and numbers that are none.

    Raises:
        ConfigError: names the keys.
    """
    if every_steps is not None and every_epochs is not None:
        raise ConfigError(
            f"{section}.every_steps={every_steps} and {section}.every_epochs={every_epochs} are both set; set one of "
            "them to null"
        )
    for name, value in (("every_steps", every_steps), ("every_epochs", every_epochs)):
        if value is not None and not value > 0:
            raise ConfigError(f"{section}.{name}={value}; expected a positive number, or null for none")


def _set_aside(path: Path) -> None:
    """Makes room for a checkpoint where one lies that was passed over on resuming."""
    if not path.exists():
        return
    aside = _new_name(path, "set-aside")
    try:
        path.rename(aside)
    except OSError as error:
        raise CheckpointError(f"{path} could not be renamed to make room for a new checkpoint: {error}") from None
    LOGGER.warning("%s was passed over, and is now called %s", path, aside.name)


def _new_name(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.{what}-{uuid.uuid4().hex[:8]}")


def _write_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    try:
        save_file(_plain(tensors), path)
    except SafetensorError as error:  # how it reports a full disk
        raise OSError(str(error)) from None


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _named(optimizer: torch.optim.Optimizer) -> list[tuple[str, torch.Tensor]]:
    return [pair for group in optimizer.param_groups for pair in zip(group["names"], group["params"], strict=True)]


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Tensors by "optimizer.<parameter>|<name>". Rates and decays come from the configuration."""
    tensors = {}
    for name, parameter in _named(optimizer):
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{name}|{key}"] = value
    return tensors


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], *, frozen: Collection[str]
) -> None:
    by_parameter: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in _below("optimizer.", tensors).items():
        name, state_name = key.rsplit("|", 1)
        by_parameter.setdefault(name, {})[state_name] = value
    parameters = dict(_named(optimizer))
    if unknown := sorted(set(by_parameter) - set(parameters)):
        raise KeyError(f"its optimizer holds {unknown[0]}, which this run does not train")
    if by_parameter and (absent := sorted(set(parameters) - set(by_parameter) - set(frozen))):
        raise KeyError(f"its optimizer holds nothing for {absent[0]}, which this run trains")
    fused = {name for group in optimizer.param_groups if group["fused"] for name in group["names"]}
    for name, stored in by_parameter.items():
        parameter = parameters[name]
        for state_name, value in stored.items():
            # The layout of the parameter (channels-last or not) is kept: the sums of the next step are then the same.
            like = torch.empty_like(parameter)
            if state_name == "step":  # a number, which only a fused kernel wants on the device
                like = torch.empty_like(value, device=parameter.device if name in fused else "cpu")
            optimizer.state[parameter][state_name] = like.copy_(value)
