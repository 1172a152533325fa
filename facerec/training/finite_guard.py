"""Stops training at the first loss or weight that is not finite, and names its origin."""

from collections.abc import Callable

import torch
from torch import nn

from facerec.core.batch import Batch
from facerec.core.errors import TrainingError

_MAX_NAMED = 5
_MEND = (
    "Lower optimizer.lr, warm up longer, clip with trainer.clip_grad_norm, or use trainer.precision=bf16 instead of "
    "fp16; earlier checkpoints are unchanged"
)


class FiniteGuard:
    """Checks embeddings and losses of every micro-batch, and the weights before they are evaluated or saved.

    On the CPU a bad loss stops the run before its gradient is applied. On a GPU the check is one step late, so that
    training never waits for it; nothing is saved in between. A gradient can be infinite although the loss is not.

    Args:
        network, objective: searched for the parameter or buffer that is not finite.
        sample_name: returns file and record for a sample's number.
    """

    def __init__(self, *, network: nn.Module, objective: nn.Module, sample_name: Callable[[int], str]) -> None:
        self.network = network
        self.objective = objective
        self.sample_name = sample_name
        self._watched: list[tuple[Batch, torch.Tensor, torch.Tensor]] = []

    def watch(self, batch: Batch, emb_BD: torch.Tensor, sample_losses_B: torch.Tensor) -> None:
        """Records which samples of a micro-batch are finite; on the CPU, raises immediately."""
        self._watched.append((batch, emb_BD.detach().isfinite().all(1), sample_losses_B.isfinite()))
        if emb_BD.device.type == "cpu":
            self.check()

    def check(self, *, before_step: int | None = None) -> None:
        """Checks the recorded micro-batches (of steps before `before_step`).

        Raises:
            TrainingError: names the step, the samples and the tensor.
        """
        due = [entry for entry in self._watched if before_step is None or entry[0].step < before_step]
        self._watched = self._watched[len(due) :]
        for batch, finite_emb_B, finite_loss_B in due:
            if not bool((finite_emb_B & finite_loss_B).all()):
                raise TrainingError(self._message(batch, finite_emb_B, finite_loss_B))

    def check_weights(self, step: int) -> None:
        """Checks everything that was recorded, and all weights after `step` steps. Raises as `check`."""
        self.check()
        if (name := self._bad_weight()) is not None:
            raise TrainingError(
                f"step {step - 1}: its losses are finite, but after its update {name} is not: the gradient was too "
                f"large. {_MEND}"
            )

    def _bad_weight(self) -> str | None:
        """Returns the first parameter or buffer that is not finite."""
        network = [*self.network.named_parameters(), *self.network.named_buffers()]
        learned = self.objective
        objective = [*learned.named_parameters(prefix="objective"), *learned.named_buffers(prefix="objective")]
        tensors = {
            name: value.detach()
            for name, value in [*network, *objective]
            if value.is_floating_point() and value.numel()
        }
        # the minimum and the maximum, which a NaN reaches: a mask would be as long as the class centres
        ends = [torch.stack(value.aminmax()).isfinite().all() for value in tensors.values()]
        finite = torch.stack(ends).tolist()  # one wait for the device
        return next((name for name, is_finite in zip(tensors, finite, strict=True) if not is_finite), None)

    def _message(self, batch: Batch, finite_emb_B: torch.Tensor, finite_loss_B: torch.Tensor) -> str:
        bad = (~(finite_emb_B & finite_loss_B)).nonzero().flatten().tolist()
        weight = self._bad_weight()
        tensor = "the loss (the embeddings are finite)" if bool(finite_emb_B.all()) else "the embedding"
        if weight is not None:
            tensor += f" (and the weight {weight})"
        names = ", ".join(self.sample_name(int(batch.indices[row])) for row in bad[:_MAX_NAMED])
        more = f" and {len(bad) - _MAX_NAMED} more" if len(bad) > _MAX_NAMED else ""
        return (
            f"step {batch.step}, micro-batch {batch.micro_index}: not finite: {tensor}, for {len(bad)} of "
            f"{len(batch)} samples: {names}{more}. {_MEND}"
        )
