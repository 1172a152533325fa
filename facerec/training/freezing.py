"""Freezes parts, layers and the statistics of batch normalisation during training, for a number of epochs."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from facerec.core.errors import ConfigError
from facerec.core.log import LOGGER
from facerec.training.part_names import check_entries, entry_for

NEVER = math.inf
NONE: Mapping[str, float | None] = MappingProxyType({})


class Freezing:
    """Says which parameters are frozen until which epoch, as plain settings.

    A frozen parameter gets no gradient, weight decay or momentum. Batch normalisation inside a frozen part normalises
    with its running statistics and does not update them. Dropout stays active, and a head still updates state that it
    learns without gradients (AdaFace's norms, CurricularFace's t).

    Args:
        epochs: epochs until training starts, None for never; by part (backbone, neck, head, loss) or by the beginning
            of a parameter's name up to a dot, such as backbone.layer1. The longest match counts, so that
            {backbone: null, backbone.layer4: 0} freezes all of the backbone but layer4.
        batch_norm: all batch normalisation of the network, frozen or not, keeps its initial statistics, and training
            normalises with them. Its weights and biases still train.

    Raises:
        ConfigError: a number of epochs is negative or not finite.
    """

    def __init__(self, *, epochs: Mapping[str, float | None] = NONE, batch_norm: bool = False) -> None:
        self.epochs = dict(epochs)
        self.batch_norm = batch_norm
        for name, value in self.epochs.items():
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"freeze.epochs.{name}={value}; expected 0 or more epochs, or null for ever")

    def check_micro_batch(self, network: nn.Module, *, num_samples: int) -> None:
        """Raises ConfigError if batch normalisation would compute the statistics of a single embedding."""
        has_norm = any(isinstance(module, nn.BatchNorm1d) for module in network.modules())
        if num_samples == 1 and has_norm and not self.batch_norm:
            raise ConfigError(
                "one sample per forward pass, but the network normalises over the batch: set data.global_batch_size "
                "and trainer.micro_batch_size to 2 or more"
            )

    def build(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        network: nn.Module,
        steps_of: Callable[[float], Fraction],
    ) -> "Freezer":
        """Builds the freezer of named parameters and of the batch normalisations of `network`.

        `steps_of` turns epochs into steps. Raises ConfigError for an entry that names nothing, and if nothing
        is left to train in the first step.
        """
        named = list(named)
        check_entries(self.epochs, [name for name, _ in named], section="freeze.epochs", default=0)
        thaw_steps = {
            entry: NEVER if epochs is None else math.ceil(steps_of(epochs)) for entry, epochs in self.epochs.items()
        }

        def first_step(name: str) -> float:
            entry = entry_for(name, thaw_steps)
            return 0 if entry is None else thaw_steps[entry]

        trained = {name: (parameter, first_step(name)) for name, parameter in named if parameter.requires_grad}
        if trained and all(step > 0 for _, step in trained.values()):
            raise ConfigError(
                f"freeze.epochs={self.epochs} leaves nothing to train in the first step: let one part have 0"
            )
        norms = [
            (module, NEVER if self.batch_norm else first_step(name))
            for name, module in network.named_modules()
            if isinstance(module, _BatchNorm)
        ]
        return Freezer(
            parameters={name: pair for name, pair in trained.items() if pair[1] > 0},
            norms=[pair for pair in norms if pair[1] > 0],
            thaw_steps={entry: step for entry, step in thaw_steps.items() if step > 0},
        )


@dataclass(frozen=True, kw_only=True)
class Freezer:
    """Freezes and thaws: the frozen parameters of a step are a function of the step alone.

    Attributes:
        parameters: by name, the parameters that are frozen at first, each with the step at which it thaws.
        norms: the same for batch normalisations.
        thaw_steps: the same for the entries of the configuration, for messages.
    """

    parameters: Mapping[str, tuple[nn.Parameter, float]]
    norms: list[tuple[nn.Module, float]]
    thaw_steps: Mapping[str, float]

    def announce(self, step: int) -> None:
        """Logs which parts are frozen at a step, and until when."""
        for entry, first_step in self.thaw_steps.items():
            if step < first_step:
                LOGGER.info("%s is frozen%s", entry, "" if first_step == NEVER else f" until step {first_step}")

    def start_step(self, step: int) -> None:
        """Freezes and thaws for a step. Call it before the step, with the network in training mode."""
        for parameter, first_step in self.parameters.values():
            parameter.requires_grad_(step >= first_step)
        for norm, first_step in self.norms:
            norm.train(step >= first_step)
        for entry, first_step in self.thaw_steps.items():
            if step == first_step:
                LOGGER.info("step %d: %s is thawed", step, entry)
