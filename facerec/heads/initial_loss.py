"""The loss that an untrained network has under any head, so that a user can tell normal from stuck."""

import math

import torch

from facerec.heads.head import Head

NUM_ANGLES = 20_000


@torch.no_grad()
def initial_loss(head: Head) -> float:
    """The expected loss of random embeddings of length sqrt(D) under random centres, for many classes, as things stand.

    The angle between random directions in D dimensions has a density proportional to sin(theta)^(D - 2), over which
    the head's own psi and g are integrated. For ArcFace that is near s sin(m) + ln C + s^2 / (2D).
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
    # the nearest of K sub-centres: the smallest of K angles
    further = 1 - density.cumsum(dim=0)
    density = torch.cat([torch.ones(1, dtype=torch.float64), further]).clamp(min=0).pow(num_sub).diff().neg()
    cos = angle.cos()
    length = torch.full_like(cos, math.sqrt(dim))
    product = cos if head.normalises else cos * dim * head.centres.init_std
    scale = torch.as_tensor(head.logit_scale(length)).double().cpu()
    usual = (density * product).sum().expand(1)
    logits = scale * head.negatives(product[None], usual)[0]
    if head.filter is not None:
        found = head.filter.finds(cos)
        logits = logits.masked_fill(found, -torch.inf if head.filter.mode == "drop" else 0.0)
    num_negatives = max(1.0, head.sample_rate * (head.centres.num_classes - 1))
    lse = math.log(num_negatives) + (logits + density.log()).logsumexp(dim=0)
    target = scale * head.target(product, length)
    loss = torch.logaddexp(lse - target, torch.zeros_like(target))
    if head.label_smoothing:
        sum_of_negatives = num_negatives * (density * logits).sum()
        loss += head.label_smoothing * (target - (target + sum_of_negatives) / (num_negatives + 1))
    if (penalty := head.penalty(length)) is not None:
        loss += penalty
    return (density * loss).sum().item()
