"""The keyword arguments of all heads: only this file has their names, types and defaults."""

import math
from typing import Annotated, Literal, Required, TypedDict, cast, get_type_hints

from facerec.core.errors import ConfigError


class UnscaledOptions(TypedDict, total=False):
    """The options of every head, each annotated with its type and its default.

    Attributes:
        num_classes: C; None is for configurations before the data set is known; `Head` refuses it.
        embedding_dim: D.
        num_sub_centres: centres per class; the nearest one counts (sub-centre ArcFace, ECCV 2020).
        label_smoothing: the share of the target's probability that is spread evenly over all classes, in [0, 1).
        inter_class_filter: what happens to negatives with a cosine above filter_threshold, see `InterClassFilter`.
        filter_threshold: a cosine.
        engine: dense, chunked, or auto: dense if the (B, C) matrix is small.
        classes_per_chunk: option of the chunked engine; None chooses it for the device.
        sample_rate: the share of the other classes that takes part in a step (Partial FC), in (0, 1]; below 1 a row
            optimizer must be given with `Head.train_rows`.
        sharding: with several processes: sharded: each holds a part of the class centres; replicated: each holds all.
        init: random, see `ClassCentres`; or class_mean: before the first step, the trainer moves each class centre to
            the mean embedding of its class, for fine-tuning.
        seed, init_std: options of the initial class centres, see `ClassCentres`.
    """

    num_classes: Required[int | None]
    embedding_dim: Annotated[int, 512]
    num_sub_centres: Annotated[int, 1]
    label_smoothing: Annotated[float, 0.0]
    inter_class_filter: Annotated[Literal["none", "drop", "zero"], "none"]
    filter_threshold: Annotated[float, 0.4]
    engine: Annotated[Literal["auto", "dense", "chunked"], "auto"]
    classes_per_chunk: Annotated[int | None, None]
    sample_rate: Annotated[float, 1.0]
    sharding: Annotated[Literal["sharded", "replicated"], "sharded"]
    init: Annotated[Literal["random", "class_mean"], "random"]
    seed: Annotated[int, 0]
    init_std: Annotated[float, 0.01]


class HeadOptions(UnscaledOptions, total=False):
    """The options of the heads with a number as the scale.

    Attributes:
        scale: s, the scale of the logits, > 0.
        learn_scale: train s by gradient, starting at `scale`; the optimizer's learning rate applies to s itself.
    """

    scale: Annotated[float, 64.0]
    learn_scale: Annotated[bool, False]


def with_defaults(options: HeadOptions) -> HeadOptions:
    """Returns all options: the given ones, and the defaults of the others.

    Raises:
        TypeError: an option does not exist, or `num_classes` is absent.
        ConfigError: a value is out of range.
    """
    hints = get_type_hints(HeadOptions, include_extras=True)
    if unknown := sorted(options.keys() - hints.keys()):
        raise TypeError(f"heads do not take an option {unknown[0]!r}; they take {', '.join(hints)}")
    if "num_classes" not in options:
        raise TypeError("heads need the option 'num_classes'")
    defaults = {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}
    given = cast(HeadOptions, {**defaults, **options})
    _check_ranges(given)
    return given


def _check_ranges(given: HeadOptions) -> None:
    if not 0 < given["scale"] < math.inf:
        raise ConfigError(f"head.scale is {given['scale']}; expected a positive number, for example 64")
    if not 0 <= given["label_smoothing"] < 1:
        raise ConfigError(f"head.label_smoothing is {given['label_smoothing']}; expected 0 (none) or a share below 1")
    if given["label_smoothing"] and given["inter_class_filter"] == "drop":
        raise ConfigError(
            "head.label_smoothing with head.inter_class_filter=drop: a dropped class has no logit to be smoothed; "
            "use inter_class_filter=zero, or label_smoothing=0"
        )
    if not -1 <= given["filter_threshold"] <= 1:
        raise ConfigError(f"head.filter_threshold is {given['filter_threshold']}; expected a cosine, for example 0.4")
    if given["classes_per_chunk"] is not None and given["classes_per_chunk"] < 1:
        raise ConfigError(f"head.classes_per_chunk is {given['classes_per_chunk']}; expected 1 or more, or null")
    if not 0 < given["sample_rate"] <= 1:
        raise ConfigError(
            f"head.sample_rate is {given['sample_rate']}; expected a share of the classes above 0, 1 for all"
        )
