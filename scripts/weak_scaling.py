"""Measures how training slows down when processes with separate batches are added, and the parts of a step.

    python scripts/weak_scaling.py OUT data.root=~/celeba_wild backbone.width_multiplier=0.25 head.num_classes=100000

It trains a few steps with 1, 2 and 4 processes in turn, in three rounds, each process with 16 images per step, and then
ten more steps with each number under the profiler. Further arguments go to `facerec train` (use `--gpus` instead of
launch.gpus). The results are written to OUT/weak_scaling.json, and a table is printed.
"""

import argparse
import json
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from facerec.runs.run_log import read_metrics

WARM_UP_STEPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder for the runs and the results")
    parser.add_argument("overrides", nargs="*", help="for facerec train")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--images", type=int, default=16, help="images per step in each process")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gpus", action="store_true", help="use one GPU per process")
    arguments = parser.parse_args()
    times: dict[int, list[float]] = {number: [] for number in arguments.processes}
    for round_number in range(arguments.rounds):
        for number in arguments.processes:
            run_dir = train(arguments, number, arguments.out / f"{number}-round-{round_number}")
            times[number].append(seconds_per_step(run_dir))
    anatomies = {}
    for number in arguments.processes:
        run_dir = train(arguments, number, arguments.out / f"{number}-profile", "profile=true", "trainer.num_steps=10")
        anatomies[number] = json.loads((run_dir / "profile" / "anatomy.json").read_text())
    figures = [figures_of(number, times[number], anatomies[number], arguments) for number in arguments.processes]
    (arguments.out / "weak_scaling.json").write_text(json.dumps(figures, indent=1))
    print(table(figures))


def train(arguments: argparse.Namespace, number: int, run_dir: Path, *more: str) -> Path:
    """Trains in a new directory, and returns it."""
    settings = [
        "data=on_disk", "eval.sets=[]", f"trainer.num_steps={arguments.steps}",
        f"data.global_batch_size={number * arguments.images}", f"trainer.micro_batch_size={arguments.images}",
        "trainer.num_threads=1", "logging.every_steps=1", "logging.tensorboard=false", "checkpoint.every_epochs=null",
        f"run_dir={run_dir}", f"launch.{'gpus' if arguments.gpus else 'processes'}={number}",
    ]  # fmt: skip
    command = [sys.executable, "-m", "facerec", "train", *settings, *arguments.overrides, *more]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode != 0:
        sys.exit(ended.stderr)
    return run_dir


def seconds_per_step(run_dir: Path) -> float:
    """Returns the median time between two lines of metrics, one per step."""
    seconds = [line["time"] for line in read_metrics(run_dir / "metrics.jsonl")][WARM_UP_STEPS:]
    return statistics.median(after - before for before, after in pairwise(seconds))


def figures_of(number: int, times: list[float], anatomy: dict[str, Any], arguments: argparse.Namespace) -> Any:
    step_s = statistics.median(times)
    return {
        "processes": number,
        "step_s": step_s,
        "range_s": [min(times), max(times)],
        "images_per_s": number * arguments.images / step_s,
        "anatomy": anatomy,
    }


def table(figures: list[dict[str, Any]]) -> str:
    """Returns the table in Markdown; the parts of a step are shares of the profiled step."""
    parts = [part.removeprefix("facerec.") for part in figures[0]["anatomy"]["part_s"]]
    columns = ["processes", "s per step", "range", "images/s", *parts, "collectives", "exposed"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in figures:
        anatomy = row["anatomy"]
        seconds = [*anatomy["part_s"].values(), anatomy["collectives_s"], anatomy["exposed_s"]]
        low, high = row["range_s"]
        cells = [str(row["processes"]), f"{row['step_s']:.2f}", f"{low:.2f}-{high:.2f}", f"{row['images_per_s']:.1f}"]
        shares = [f"{100 * second / anatomy['step_s']:.1f} %" for second in seconds]
        lines.append("| " + " | ".join(cells + shares) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
