"""Runs a network on images without values, to learn the shape of its output and what a pass costs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import nn


def run_on_meta(module: nn.Module, *shape: int, parameters: Mapping[str, torch.Tensor] | None = None) -> Any:
    """Returns the output for an input of this shape on the meta device, in evaluation mode.

    Args:
        module: on any device; nothing of it is changed.
        shape: of the input, which has the type of the parameters.
        parameters: other parameters, by name; None: the module's own.
    """
    weights = dict(module.named_parameters()) if parameters is None else parameters
    state = {name: tensor.to("meta") for name, tensor in chain(weights.items(), module.named_buffers())}
    with _evaluating(module):
        return torch.func.functional_call(module, state, torch.empty(shape, device="meta", dtype=_dtype(weights)))


def trial_run(module: nn.Module, *shape: int, within: Callable[[], AbstractContextManager[Any]] = nullcontext) -> Any:
    """Returns the output for an input of this shape, in evaluation mode and without gradients.

    It has no values (meta device) if the module can run without them; else it is computed from zeros. torch's random
    numbers go on afterwards as if nothing had run. `within` makes a context for each attempt.

    Raises:
        Exception: whatever the module raises when it runs on zeros.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            with within():
                return run_on_meta(module, *shape)
        except Exception:  # what a module does with values, such as .item(), fails in many ways
            weights = dict(module.named_parameters())
            device = next(iter(weights.values())).device if weights else torch.device("cpu")
            with within(), _evaluating(module):
                return module(torch.zeros(shape, device=device, dtype=_dtype(weights)))


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    was_training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in was_training:
            part.training = True


def _dtype(weights: Mapping[str, torch.Tensor]) -> torch.dtype:
    return next((tensor.dtype for tensor in weights.values()), torch.float32)
