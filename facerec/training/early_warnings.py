"""Judges the numbers of a training before its first step: each function returns a warning with its mend, or None.

The warnings change nothing. The bounds are wide: none of the experiments in configs/experiment is warned of.
"""

FEW_STEPS = 300
"""The fewest steps from random class centres. The demo, the shortest recipe from random centres, has 703 steps, and
celeba_wild_ir18s_arcface is still five points below its result after 391: a few hundred are mostly warm-up."""

FEW_STEPS_FROM_MEANS = 100
"""The fewest steps if the class centres start at the mean embeddings of their classes, and so near their places."""

FAR_FROM_USUAL = 4.0
"""A learning rate is far from the usual one by this factor. The published recipes of one family (0.02 for a batch of
128, 0.1 for 1,024, 0.6 for 8,192) follow the linear rule within a factor of 1.6; a batch of another machine's size with
an unchanged rate (1,024 on 8 GPUs, 128 on one) is off by 8."""


def few_steps(*, num_steps: int, num_images: int, batch_size: int, starts_at_means: bool) -> str | None:
    """Returns a warning if the whole training has too few steps.

    Args:
        num_steps: optimizer steps of the whole training.
        num_images: size of the data set.
        batch_size: samples in an optimizer step.
        starts_at_means: True if the class centres start at the mean embeddings of their classes.
    """
    enough = FEW_STEPS_FROM_MEANS if starts_at_means else FEW_STEPS
    if num_steps >= enough:
        return None
    num_epochs = -(-enough * batch_size // num_images)  # rounded up
    num_more = num_epochs * num_images // batch_size
    steps = "1 optimizer step is" if num_steps == 1 else f"{num_steps} optimizer steps are"
    return (
        f"{steps} too few to learn from: trainer.num_epochs={num_epochs} makes {num_more}; a smaller "
        "data.global_batch_size, with a smaller optimizer.lr, makes more steps from the same images"
    )


def mostly_single_images(*, num_single: int, num_identities: int, starts_trained: bool) -> str | None:
    """Returns a warning if most identities have one image.

    Args:
        num_single: number of identities with one image.
        num_identities: number of identities with images.
        starts_trained: True if the network starts with trained weights.
    """
    if 2 * num_single <= num_identities:
        return None
    start = "" if starts_trained else ", or start from a trained model (init_from=...)"
    return (
        f"{num_single} of {num_identities} identities have one image: from these, a margin softmax learns to tell "
        "photos apart, but not what the photos of one person share. Add photos of the same people "
        f"(data.root=[a,b] data.merge=by_name joins sets){start}"
    )


def unusual_lr(*, lr: float, batch_size: int, usual_lr: float, usual_batch_size: int, exponent: float) -> str | None:
    """Returns a warning if a learning rate is far from that of the recipe, scaled to the batch size.

    Args:
        lr, batch_size: the learning rate, and the number of samples in an optimizer step.
        usual_lr, usual_batch_size: those of the recipe.
        exponent: the recipe's rate grows with the batch size to this power: 1 for SGD (P. Goyal et al., 2017), 0.5 for
            Adam and its kin, whose step does not depend on the length of the gradient (S. Malladi et al., 2022).
    """
    if (lr, batch_size) == (usual_lr, usual_batch_size) or min(lr, usual_lr) <= 0:
        return None
    scaled = usual_lr * (batch_size / usual_batch_size) ** exponent
    factor = max(lr / scaled, scaled / lr)
    if factor < FAR_FROM_USUAL * (1 - 1e-9):
        return None
    rule = "in proportion to the batch" if exponent == 1 else "with the square root of the batch"
    return (
        f"optimizer.lr={lr:g} is {factor:.3g} times {'above' if lr > scaled else 'below'} the usual rate for "
        f"data.global_batch_size={batch_size}: the recipe has {usual_lr:g} for {usual_batch_size}, which makes "
        f"optimizer.lr={scaled:.3g} {rule}. Nothing is changed"
    )


def above_untrained(*, loss: float, untrained: float, first_step: int, last_step: int) -> str | None:
    """Returns a warning if the mean loss of some steps is above that of an untrained network with the same head.

    Args:
        loss: the mean loss of the head, over the steps.
        untrained: see `facerec.heads.initial_loss`.
        first_step, last_step: the steps, counted from 1.
    """
    if not loss > untrained:
        return None
    return (
        f"steps {first_step} to {last_step}: the mean loss is {loss:.2f}, but an untrained network has "
        f"{untrained:.2f}. The training goes the wrong way: try a smaller optimizer.lr, a smaller margin, or a longer "
        "warm-up (schedule.warmup_epochs, trainer.margin_ramp_epochs)"
    )
