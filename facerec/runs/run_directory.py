"""The one owner of a run directory: it names the files, reads and writes them, and locks out other processes.

All readers follow one rule: an absent file gives None or an empty value, an unreadable one a DataError that names it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facerec.core.atomic_file import atomic_file
from facerec.core.errors import ConfigError, DataError
from facerec.core.metric import Metric, details_of, metrics_from, values_of

FORMAT = 2
"""Version of the layout, in run.json. In version 1, which run.json does not state, metrics have no details."""
SECONDS_TO_WAIT = 10  # for a process that is still writing its last checkpoint
FINISHED = "finished"
SETTINGS = "settings"
"""Key of evaluation.json: the arguments of each own benchmark, by its name."""


class RunDirectory:
    """The files of one run.

    Args:
        path: path of the folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.config = path / "config.yaml"
        self.overrides = path / "overrides.json"
        self.about = path / "run.json"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"
        self.evaluation = path / "evaluation.json"
        self.preempted = path / "preempted"
        self.curves = path / "curves.png"
        self.samples = path / "samples.png"
        self.skipped = path / "skipped.csv"
        self.log = path / "log.txt"
        self.tensorboard = path / "tensorboard"
        self.trace = path / "profile" / "trace.json"
        self._lock = path / ".lock"

    @property
    def is_run(self) -> bool:
        """True if a training has begun here."""
        return self.overrides.is_file()

    def evaluation_of(self, checkpoint: Path) -> Path:
        """Returns the path for the metrics of a checkpoint that was chosen, beside those of the last one."""
        return self.evaluation.with_stem(f"{self.evaluation.stem}_{checkpoint.name}")

    @contextmanager
    def held_alone(self) -> Iterator[None]:
        """Locks the directory for this process; the system ends the lock with the process, however it dies.

        Raises:
            ConfigError: another process is training there.
        """
        from filelock import FileLock, Timeout

        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock)
        try:
            with lock.acquire(timeout=SECONDS_TO_WAIT):
                yield
        except Timeout:
            raise ConfigError(
                f"{self.path}: another process trains there; wait until it ends, stop it, or use another run_dir"
            ) from None

    def write_start(self, *, config_yaml: str, overrides: Sequence[str], about: Mapping[str, Any]) -> None:
        """Writes the files that describe the run.

        Args:
            config_yaml: the resolved configuration.
            overrides: the overrides of the command line.
            about: plain values: command, versions, data_fingerprint.
        """
        _write(self.config, config_yaml)
        _write(self.overrides, json.dumps(list(overrides)))
        _write(self.about, json.dumps({"format": FORMAT, **about}, indent=1))

    def forget_the_start(self) -> None:
        """Removes the files that describe the run, because it could not begin: its settings do not count later."""
        for path in (self.config, self.overrides, self.about):
            path.unlink(missing_ok=True)

    def forget_the_end(self) -> None:
        """Removes the files about the end of an earlier training here, before another begins or resumes."""
        self.result.unlink(missing_ok=True)
        self.preempted.unlink(missing_ok=True)

    def write_result(self, *, step: int, metrics: Sequence[Metric]) -> None:
        """Writes that the training is finished, with the final metrics."""
        _write(self.result, json.dumps({"status": FINISHED, "step": step, **_stored(metrics)}, indent=1))

    def write_preempted(self, *, step: int, signal: str | None) -> None:
        """Writes that a signal has stopped the training; the next start removes the file."""
        _write(self.preempted, json.dumps({"step": step, "signal": signal}))

    def read_config(self) -> dict[str, Any]:
        """Returns the resolved configuration as plain values; empty if there is none."""
        import yaml

        try:
            config = yaml.safe_load(self.config.read_text()) if self.config.exists() else {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise DataError(f"{self.config} is not YAML ({error}); expected what facerec train wrote") from None
        if not isinstance(config, dict):
            raise DataError(f"{self.config} holds no keys; expected what facerec train wrote")
        return config

    def read_overrides(self) -> list[str]:
        """Returns the overrides as they were given; empty if there are none."""
        return [str(override) for override in read_json(self.overrides, list) or []]

    def read_about(self) -> dict[str, Any]:
        """Returns the content of run.json; empty if there is none."""
        return read_json(self.about, dict) or {}

    def read_result(self) -> tuple[int, list[Metric]] | None:
        """Returns step and metrics of the end; None if the training is not finished."""
        result = read_json(self.result, dict)
        if result is None or result.get("status") != FINISHED:
            return None
        try:
            return int(result["step"]), _metrics(result)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DataError(f"{self.result} is damaged; expected what facerec train wrote") from None

    def latest_metrics(self) -> list[Metric]:
        """Returns the final metrics, and those that `facerec evaluate` has added for that model since.

        A benchmark of the training that was evaluated with other settings than in the training (folds, or the arguments
        of an own benchmark) keeps its metrics of the training, so that all runs of a table follow one protocol.
        """
        step, found = self.read_result() or (None, [])
        later = read_json(self.evaluation, dict) or {}
        if step is not None and later.get("step") == step:
            trained_on = {metric.benchmark for metric in found}
            since = [
                metric
                for metric in _metrics(later)
                if metric.benchmark not in trained_on or self._is_as_trained(metric.benchmark, later)
            ]
            again = {metric.benchmark for metric in since}
            found = [metric for metric in found if metric.benchmark not in again] + since
        return found

    def _is_as_trained(self, benchmark: str, later: Mapping[str, Any]) -> bool:
        """True unless the stored evaluation says that it used other settings than the training."""
        settings = self.read_config().get("eval") or {}
        own = (later.get(SETTINGS) or {}).get(benchmark)
        if own is not None:
            return own in (settings.get("benchmarks") or {}).values()
        num_folds = later.get("num_folds")
        return num_folds is None or num_folds == settings.get("num_folds", num_folds)


def write_evaluation(path: Path, *, step: int | None, metrics: Sequence[Metric], more: Mapping[str, Any]) -> None:
    """Writes the metrics of `facerec evaluate`, and keeps the file's metrics of other benchmarks for the same model.

    Args:
        path: path of the JSON file.
        step: step of the checkpoint; None for a foreign model.
        metrics: the model's metrics, under eval/<benchmark>.
        more: plain values; those that are not mappings identify the model, and the file's metrics are kept only if they
            are equal.
    """
    about = {"step": step, **{key: value for key, value in more.items() if not isinstance(value, Mapping)}}
    try:
        before = read_json(path, dict) or {}
    except DataError:
        before = {}
    is_same = all(before.get(key) == value for key, value in about.items())
    content: dict[str, Any] = dict(about)
    mappings = {key: value for key, value in more.items() if isinstance(value, Mapping)}
    for key, value in {**mappings, **_stored(metrics)}.items():
        kept = before.get(key) if is_same else None
        content[key] = {**(kept if isinstance(kept, dict) else {}), **value}
    _write(path, json.dumps(content, indent=1))


def read_json(path: Path, kind: type) -> Any:
    """Returns the content of a JSON file; None if it is absent.

    Raises:
        DataError: it cannot be read, is not JSON, or holds another kind of value.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); expected what facerec wrote") from None
    if not isinstance(content, kind):
        raise DataError(f"{path} holds a {type(content).__name__}; expected a {kind.__name__}")
    return content


def runs_below(folders: Sequence[Path] | set[Path]) -> list[RunDirectory]:
    """Returns all runs at and below the folders, each once, in the order of their paths."""
    name = RunDirectory(Path()).overrides.name
    return [RunDirectory(path) for path in sorted({file.parent for folder in folders for file in folder.rglob(name)})]


def _stored(metrics: Sequence[Metric]) -> dict[str, Any]:
    return {"metrics": values_of(metrics), "metric_details": details_of(metrics)}


def _metrics(stored: Mapping[str, Any]) -> list[Metric]:
    return metrics_from(stored.get("metrics", {}), stored.get("metric_details"))


def _write(path: Path, text: str) -> None:
    """Writes a file that is complete or absent, in a folder that is made if absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(text.encode())
