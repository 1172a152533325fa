"""Objective: the one thing the trainer calls to turn embeddings and labels into a loss and figures to log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from facerec.core.errors import ConfigError
from facerec.heads.initial_loss import initial_loss
from facerec.losses.term import Term, TermInputs


@dataclass(frozen=True, kw_only=True)
class ObjectiveOutput:
    """What the trainer gets for a micro-batch of B samples.

    Attributes:
        loss: scalar, the mean over the samples, with gradient.
        logs: scalars to log, detached, on the device, means over the micro-batch: "loss"; with a head
            "target_angle_deg", the mean angle between an embedding and its class centre in degrees; with terms
            "softmax", the loss of the head, and "term/<name>", each without its coefficient.
        target_cos_B: fp32 (B,), in [-1, 1], detached; None without a head.
        sample_losses_B: (B,), detached: the loss of the head for every sample, and the terms, of which each sample
            carries the mean.
    """

    loss: torch.Tensor
    logs: dict[str, torch.Tensor]
    target_cos_B: torch.Tensor | None
    sample_losses_B: torch.Tensor


class Objective(nn.Module):
    """The loss of a head plus those of any number of terms, each times its coefficient, with the figures to log.

    Args:
        head: a `facerec.heads.head.Head`, or None to train on terms alone.
        terms: by the names under which they are logged and saved.

    Raises:
        ConfigError: neither a head nor a term, or a term that needs a head without one.
    """

    def __init__(self, *, head: nn.Module | None, terms: Mapping[str, Term] | None = None) -> None:
        super().__init__()
        self.head: Any = head
        self.terms: Any = nn.ModuleDict(terms)
        if head is None and not terms:
            raise ConfigError("no head and no loss: nothing to train on; choose a head=..., or a loss=[triplet]")
        for name, term in self.terms.items():
            if head is None and term.needs_head:
                raise ConfigError(
                    f"loss.{name} is about the class centres of a head, and there is no head: choose a head=..., or "
                    f"leave {name} out of loss=[...]"
                )

    def start_step(self, step: int, *, margin_fraction: float, labels_of_step: torch.Tensor, lr: float = 0.0) -> None:
        """Before the first micro-batch of a step: see `facerec.heads.head.Head.start_step` and `Term.start_step`.

        Raises:
            ConfigError: a term moves all class centres, but the head moves only those that it drew.
        """
        if self.head is not None:
            self.head.start_step(step, margin_fraction=margin_fraction, labels_of_step=labels_of_step, lr=lr)
        for name, term in self.terms.items():
            if term.moves_all_centres and self.head.rows is not None:
                raise ConfigError(
                    f"loss.{name} moves all class centres in every step, which neither head.sample_rate below 1 nor "
                    f"optimizer.fused_centres=true allows: leave one of them out"
                )
            term.start_step(step)

    def end_step(self, *, grad_scale: float = 1.0, skipped: bool = False) -> None:
        """After the last micro-batch of a step: what was learned from the whole global batch takes effect.

        Args:
            grad_scale, skipped: see `facerec.heads.head.Head.end_step`.
        """
        if self.head is not None:
            self.head.end_step(grad_scale=grad_scale, skipped=skipped)
        for term in self.terms.values():
            term.end_step()

    def expected_initial_loss(self) -> float | None:
        """The loss of the head, without the terms, for an untrained network; None without a head."""
        return None if self.head is None else initial_loss(self.head)

    def forward(self, emb_BD: torch.Tensor, labels_B: torch.Tensor, images: torch.Tensor) -> ObjectiveOutput:
        """A micro-batch's loss. Raises what the head and the terms raise.

        Args:
            emb_BD: embeddings (B, D), any floating type.
            labels_B: int64 (B,).
            images: uint8 (B, H, W, 3), RGB, augmented, on any device.
        """
        # fp32 at least: angles near 0 and sums over a batch are lost in half precision
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
