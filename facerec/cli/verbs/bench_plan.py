"""`facerec bench suite=plan`: prints tables of what each process of a training would hold in memory and send."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facerec.bench.plan import KINDS, MESSAGES, MOMENTS, Job, Plan
from facerec.bench.rehearsal import make_plan
from facerec.cli.config.arguments import build, check_arguments
from facerec.cli.launching.launch_settings import launch_settings
from facerec.cli.summary import text_table
from facerec.cli.verbs.parts import build_network
from facerec.cli.verbs.train_settings import DataSettings
from facerec.core.errors import ConfigError
from facerec.training.settings import TrainerSettings

NOT_COUNTED = (
    "not counted: CUDA's context, the workspaces of cuDNN, cuBLAS and NCCL, and gaps between blocks; "
    "on GPUs, plans have not been compared with measurements"
)


def run(config: DictConfig) -> dict[str, Any]:
    """Plans, prints the tables, and returns the results."""
    if not isinstance(config.machines, int) or config.machines < 1:
        raise ConfigError(f"machines={config.machines}; expected a whole number, 1 or more")
    if config.gpu_gb is not None and not (isinstance(config.gpu_gb, int | float) and config.gpu_gb > 0):
        raise ConfigError(f"gpu_gb={config.gpu_gb}; expected a positive number, for example 80, or null")
    job = _job(config)
    plan = make_plan(job)
    _print_job(config, job)
    _print_memory(plan)
    for warning in _left_out(config):
        print(warning)
    _print_traffic(plan, num_machines=config.machines)
    if config.gpu_gb is not None:
        _print_fit(config, plan)
    return {**asdict(plan), "peak_bytes": plan.peak_bytes}


def _job(config: DictConfig) -> Job:
    if config.head is None or "_target_" not in config.head:
        raise ConfigError("suite=plan plans a training with a head: choose one, for example head=arcface")
    num_classes = config.head.num_classes
    if num_classes is None:
        raise ConfigError("head.num_classes is not set; suite=plan opens no data: give the number of identities")
    values: Any = OmegaConf.to_container(config)
    launch = launch_settings(config)
    check_arguments(DataSettings, values["data"], section="data")
    settings: TrainerSettings = build(config.trainer)
    world_size = config.machines * (launch.num_processes or 1)
    return Job(
        make_network=lambda: build_network(config),
        make_head=lambda *, num_classes: build({**config.head, "num_classes": num_classes}),
        num_classes=num_classes,
        optimizer=build(config.optimizer),
        world_size=world_size,
        is_sharded=config.head.sharding == "sharded",
        global_batch_size=config.data.global_batch_size,
        micro_batch_size=settings.micro_batch_size or config.data.global_batch_size // world_size,
        precision=settings.precision,
        has_average=settings.ema_decay is not None,
        compression=settings.compress_gradients,
        on_gpu=launch.processes is None and settings.device != "cpu",
    )


def _print_job(config: DictConfig, job: Job) -> None:
    print(
        f"plan: {_counted(job.world_size, 'process', 'processes')} on {_counted(config.machines, 'machine')}, "
        f"{job.precision}; {_counted(job.num_classes, 'class', 'classes')}, {job.num_own_classes:,} in each process; "
        f"{_counted(job.global_batch_size, 'image')} a step, {_counted(job.num_micro_batches, 'micro-batch', 'es')} of "
        f"{job.micro_batch_size} in each process; the head sees {job.num_head_samples:,} together"
    )
    if job.world_size > 1 and config.trainer.micro_batch_size is None:
        print(f"facerec train needs this key too: trainer.micro_batch_size={job.micro_batch_size}")


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _print_memory(plan: Plan) -> None:
    rows = []
    for kind in KINDS:
        sizes = [plan.held_bytes[moment].get(kind, 0) for moment in MOMENTS]
        if any(sizes):
            rows.append([kind, *(_gb(size) for size in sizes)])
    rows.append(["total", *(_gb(sum(plan.held_bytes[moment].values())) for moment in MOMENTS)])
    print("\nGB in each process, at the fullest moment of each part (head: with the whole forward pass)\n")
    print(text_table(("", *MOMENTS), rows))
    print(f"\npeak: {_gb(plan.peak_bytes)} GB ({plan.peak_moment})\n{NOT_COUNTED}")


def _gb(size: int) -> str:
    return f"{size / 1e9:.3f}" if size else "-"


def _left_out(config: DictConfig) -> Iterator[str]:
    """Yields a line for each setting that the plan ignores."""
    for term in config.loss:
        yield f"left out: loss.{term}"
    if config.freeze.batch_norm or any(epochs != 0 for epochs in config.freeze.epochs.values()):
        yield "left out: freeze; the plan is for the time when nothing is frozen"
    if config.trainer.compile:
        yield "left out: trainer.compile, which changes the activations"
    if config.trainer.sync_batch_norm:
        yield "left out: the traffic of trainer.sync_batch_norm"


def _print_traffic(plan: Plan, *, num_machines: int) -> None:
    rows = [[message, f"{plan.sent_bytes[message] / 1e6:.3f}"] for message in MESSAGES if message in plan.sent_bytes]
    if not rows:
        print("\nthe only process sends nothing")
        return
    total = f"{sum(plan.sent_bytes.values()) / 1e6:.3f}"
    print("\nMB that each process sends in a step, and receives, if the collectives use a ring\n")
    print(text_table(("", "MB"), [*rows, ["total", total]]))
    if num_machines > 1:
        # The ring leaves each machine once, from one process to the next.
        print(f"\nbetween machines: each sends {total} MB per step, and receives as much, with any number of GPUs")
    else:
        print("\nbetween machines: nothing, because there is only one")


def _print_fit(config: DictConfig, plan: Plan) -> None:
    limit = config.gpu_gb * 1e9
    if plan.peak_bytes <= limit:
        print(f"\ngpu_gb={config.gpu_gb}: {_gb(round(limit - plan.peak_bytes))} GB remain for what is not counted")
        return
    print(f"\ngpu_gb={config.gpu_gb}: {_gb(round(plan.peak_bytes - limit))} GB too much. One change at a time:\n")
    rows = []
    for key, value in _changes(config):
        print(f"... {key}={value}", file=sys.stderr)
        changed = config.copy()
        OmegaConf.update(changed, key, value)
        try:
            peak = make_plan(_job(changed)).peak_bytes
        except ConfigError:
            continue  # facerec train would refuse it
        if peak < plan.peak_bytes:
            rows.append((peak, [f"{key}={str(value).lower()}", _gb(peak), "fits" if peak <= limit else "too much"]))
    print(text_table(("change", "peak GB", ""), [row for _, row in sorted(rows)]))


def _changes(config: DictConfig) -> Iterator[tuple[str, Any]]:
    """Yields keys and values that reduce the memory of a training."""
    yield "machines", 2 * config.machines
    if config.head.sharding == "replicated":
        yield "head.sharding", "sharded"
    if not config.optimizer.fused_centres:
        yield "optimizer.fused_centres", True
    if config.head.sample_rate > 0.1 and not config.loss:  # some terms need all centres
        yield "head.sample_rate", 0.1
    yield "trainer.micro_batch_size", _job(config).micro_batch_size // 2
    if config.backbone.get("checkpoint_activations") is False:
        yield "backbone.checkpoint_activations", True
    if config.trainer.precision in ("fp32", "fp64"):
        yield "trainer.precision", "bf16"
