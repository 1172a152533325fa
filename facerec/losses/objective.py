"""The objective: the trainer calls it to map embeddings and labels to a loss and metrics for the log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from facerec.core.errors import ConfigError
from facerec.core.part_check import check_part
from facerec.heads.head import check_head
from facerec.heads.initial_loss import initial_loss
from facerec.losses.term import Term, TermInputs


@dataclass(frozen=True, kw_only=True)
class ObjectiveOutput:
    """The output of the objective for a micro-batch of B samples.

    Attributes:
        loss: scalar, the mean over the samples, with gradient.
        logs: scalars to log, detached, on the device, means over the micro-batch: "loss"; with a head
            "target_angle_deg", the mean angle between an embedding and its class centre in degrees; with terms
            "softmax", the loss of the head, and "term/<name>", each without its weight.
        target_cos_B: fp32 (B,), in [-1, 1], detached; None without a head.
        sample_losses_B: (B,), detached: each sample's loss in the head plus the terms, which are means that all samples
            share.
    """

    loss: torch.Tensor
    logs: dict[str, torch.Tensor]
    target_cos_B: torch.Tensor | None
    sample_losses_B: torch.Tensor


class Objective(nn.Module):
    """The loss of a head plus any number of weighted terms, with metrics for the log.

    Args:
        head: a `facerec.heads.head.Head`, or None to train on terms alone.
        terms: the terms, by the names for logging and saving.

    Raises:
        ConfigError: there is neither a head nor a term, or a term needs a head and there is none; or one of them, of
            the user's own class, lacks something of `Head` or `Term`.
    """

    def __init__(self, *, head: nn.Module | None, terms: Mapping[str, Term] | None = None) -> None:
        super().__init__()
        if head is not None:
            check_head(head)
        for name, one in (terms or {}).items():
            check_part(one, Term, key=f"loss.{name}", kind="loss term", base=Term)
        self.head: Any = head
        self.terms: Any = nn.ModuleDict(terms)
        if head is None and not terms:
            raise ConfigError("no head and no loss: nothing to train on; choose a head=..., or a loss=[triplet]")
        for name, term in self.terms.items():
            if head is None and term.needs_head:
                raise ConfigError(
                    f"loss.{name} needs the class centres of a head, and there is no head: choose a head=..., or "
                    f"remove {name} from loss=[...]"
                )

    def start_step(self, step: int, *, margin_fraction: float, labels_of_step: torch.Tensor, lr: float = 0.0) -> None:
        """Prepares a step, see `facerec.heads.head.Head.start_step` and `Term.start_step`.

        Raises:
            ConfigError: a term updates all class centres, but the head updates only those that it drew.
        """
        if self.head is not None:
            self.head.start_step(step, margin_fraction=margin_fraction, labels_of_step=labels_of_step, lr=lr)
        for name, term in self.terms.items():
            if term.moves_all_centres and self.head.rows is not None:
                raise ConfigError(
                    f"loss.{name} updates all class centres in every step, which neither head.sample_rate below 1 nor "
                    f"optimizer.fused_centres=true allows: remove one of them"
                )
            term.start_step(step)

    def end_step(self, *, grad_scale: float = 1.0, skipped: bool = False) -> None:
        """Finishes a step: applies what the head and the terms have learned from the whole global batch.

        Args:
            grad_scale, skipped: see `facerec.heads.head.Head.end_step`.
        """
        if self.head is not None:
            self.head.end_step(grad_scale=grad_scale, skipped=skipped)
        for term in self.terms.values():
            term.end_step()

    def expected_initial_loss(self) -> float | None:
        """Returns the loss of the head, without the terms, for an untrained network; None without a head."""
        return None if self.head is None else initial_loss(self.head)

    def forward(self, emb_BD: torch.Tensor, labels_B: torch.Tensor, images: torch.Tensor) -> ObjectiveOutput:
        """Computes a micro-batch's loss. Raises the errors of the head and the terms.

        Args:
            emb_BD: embeddings (B, D), any floating type.
            labels_B: int64 (B,).
            images: uint8 (B, H, W, 3), RGB, augmented, on any device.
        """
        # fp32 or higher: half precision loses angles near 0 and sums over a batch.
        emb_BD = emb_BD.to(torch.promote_types(emb_BD.dtype, torch.float32))
        logs: dict[str, torch.Tensor] = {}
        loss, sample_losses_B = emb_BD.new_zeros(()), emb_BD.new_zeros(len(labels_B))
        target_cos_B, detached_cos_B = None, None
        if self.head is not None:
            output = self.head(emb_BD, labels_B)
            loss, sample_losses_B, target_cos_B = output.loss, output.sample_losses_B, output.target_cos_B
            detached_cos_B = target_cos_B.detach().float().clamp(-1, 1)
            logs["target_angle_deg"] = detached_cos_B.acos().rad2deg().mean()
        if self.terms:
            if self.head is not None:
                logs["softmax"] = loss.detach()
            inputs = TermInputs(
                emb_BD=emb_BD,
                labels_B=labels_B,
                images=images,
                target_cos_B=target_cos_B,
                centres=None if self.head is None else self.head.centres,
            )
            with torch.autocast(device_type=emb_BD.device.type, enabled=False):
                for name, term in self.terms.items():
                    value = term(inputs)
                    logs[f"term/{name}"] = value.detach()
                    loss = loss + term.weight * value
                    sample_losses_B = sample_losses_B + term.weight * value.detach()
        logs["loss"] = loss.detach()
        return ObjectiveOutput(loss=loss, logs=logs, target_cos_B=detached_cos_B, sample_losses_B=sample_losses_B)
