"""The verb `bench`: suites of measurements, and a plan of memory and traffic on other machines."""

import json
from pathlib import Path

from omegaconf import DictConfig

from facerec.cli.config.overrides import key_of, parse_overrides
from facerec.cli.verbs import bench_data, bench_head, bench_plan
from facerec.core.atomic_file import atomic_file
from facerec.core.errors import ConfigError

SUITES = {"head": bench_head.run, "data": bench_data.run, "plan": bench_plan.run}
KEYS = {"suite", "out"}
SUITE_KEYS = {"head": bench_head.KEYS, "data": bench_data.KEYS}  # suite=plan reads all other keys
OF_TRAIN = {"data", "augment", "input"}


def run(config: DictConfig, overrides: list[str]) -> int:
    """Runs the suite, which prints its tables, and writes the results as JSON to `out`, if given."""
    if config.suite not in SUITES:
        raise ConfigError(f"suite={config.suite}; expected one of {', '.join(SUITES)}")
    _check_overrides(overrides, suite=config.suite)
    figures = SUITES[config.suite](config)
    if config.out is not None:
        path = Path(config.out).expanduser()
        with atomic_file(path) as file:
            file.write(json.dumps(figures, indent=1).encode())
        print(f"\nresults      {path}")
    return 0


def _check_overrides(overrides: list[str], *, suite: str) -> None:
    """Refuses keys that the suite does not read."""
    not_of_train = set().union(*SUITE_KEYS.values()) - OF_TRAIN
    for override in parse_overrides(overrides):
        name = key_of(override).split(".")[0]
        if name in KEYS:
            continue
        if suite in SUITE_KEYS and name not in SUITE_KEYS[suite]:
            takes = ", ".join(sorted(SUITE_KEYS[suite]))
            raise ConfigError(f"{override.input_line}: suite={suite} does not read this key; it takes {takes}")
        if suite not in SUITE_KEYS and name in not_of_train:
            suites = " and ".join(f"suite={other}" for other, keys in SUITE_KEYS.items() if name in keys)
            raise ConfigError(
                f"{override.input_line}: this key is for {suites}; suite={suite} takes the keys of facerec train, "
                "such as head.num_classes and trainer.micro_batch_size"
            )
