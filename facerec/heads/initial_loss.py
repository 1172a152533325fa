"""Computes the loss of an untrained network with any head, so that a user can tell normal training from a stuck one."""

import math
from dataclasses import dataclass

import torch

from facerec.heads.head import Head

NUM_ANGLES = 20_000


@torch.no_grad()
def initial_loss(head: Head) -> float:
    """Returns the expected loss of random embeddings of norm sqrt(D) and random centres, for many classes.

    It uses the head's current state. The angle between random directions in D dimensions has a density proportional to
    sin(theta)^(D - 2), over which the head's psi and g are integrated. For ArcFace it is near s sin(m) + ln C + s^2/2D.
    """
    was_training = head.training
    head.eval()
    try:
        return _of_random_embeddings(head)
    finally:
        head.train(was_training)


def _of_random_embeddings(head: Head) -> float:
    dim, num_sub = head.centres.embedding_dim, head.centres.num_sub_centres
    angle = (torch.arange(NUM_ANGLES, dtype=torch.float64) + 0.5) * (math.pi / NUM_ANGLES)
    density = ((dim - 2) * angle.sin().log()).softmax(dim=0)
    # the nearest of K sub-centres has the smallest of K angles
    further = 1 - density.cumsum(dim=0)
    density = torch.cat([torch.ones(1, dtype=torch.float64), further]).clamp(min=0).pow(num_sub).diff().neg()
    cos = angle.cos()
    product = cos if head.normalises else cos * dim * head.centres.init_std
    values = _of_head(head, product, usual=(density * product).sum(), length=math.sqrt(dim))
    logits = values.scale * values.negatives
    if head.filter is not None:
        found = head.filter.finds(cos)
        logits = logits.masked_fill(found, -torch.inf if head.filter.mode == "drop" else 0.0)
    num_negatives = max(1.0, head.sample_rate * (head.centres.num_classes - 1))
    lse = math.log(num_negatives) + (logits + density.log()).logsumexp(dim=0)
    target = values.scale * values.target
    loss = torch.logaddexp(lse - target, torch.zeros_like(target))
    if head.label_smoothing:
        sum_of_negatives = num_negatives * (density * logits).sum()
        loss += head.label_smoothing * (target - (target + sum_of_negatives) / (num_negatives + 1))
    return (density * (loss + values.penalty)).sum().item()


@dataclass(frozen=True, kw_only=True)
class _Values:
    """The head's values for N products, fp64 on the CPU: tensors (N,) or scalars."""

    target: torch.Tensor
    negatives: torch.Tensor
    scale: torch.Tensor
    penalty: torch.Tensor


def _of_head(head: Head, product: torch.Tensor, *, usual: torch.Tensor, length: float) -> _Values:
    """Calls the head on its own device and in its own type, because some devices have no fp64.

    Args:
        head: in evaluation mode.
        product: fp64 (N,), cosines or plain products, on the CPU.
        usual: the product with the own centre to which the negatives are compared.
        length: the norm of all embeddings.
    """

    def there(values: torch.Tensor) -> torch.Tensor:
        return values.to(dtype=head.centres.weight.dtype).to(head.centres.weight.device)

    def here(values: float | torch.Tensor | None) -> torch.Tensor:
        return torch.as_tensor(0.0 if values is None else values).cpu().double()

    lengths = there(torch.full_like(product, length))
    return _Values(
        target=here(head.target(there(product), lengths)),
        negatives=here(head.negatives(there(product[None]), there(usual.expand(1)))[0]),
        scale=here(head.logit_scale(lengths)),
        penalty=here(head.penalty(lengths)),
    )
