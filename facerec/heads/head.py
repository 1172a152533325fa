"""Heads: each combines class centres, a margin and an engine into a module that maps embeddings and labels to a loss.

A head is a class with two formulas, psi for the target (`target`) and g for the negatives (`negatives`); everything
else is in `Head`. Every head has its own file.

Letters: B samples, C classes, D embedding dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Unpack

import torch
from torch import nn

from facerec.core.errors import ConfigError, DataError
from facerec.core.log import LOGGER
from facerec.core.part_check import check_part, is_of_facerec, part_error
from facerec.heads.centres import ClassCentres
from facerec.heads.chunked import chunked
from facerec.heads.engines import MIN_NORM, Engine, EngineInput, InterClassFilter, dense, target_cosines
from facerec.heads.options import HeadOptions, with_defaults
from facerec.heads.row_optimizer import RowOptimizer
from facerec.heads.sampling import Draw, drawn_classes
from facerec.heads.shards import gathered, merged, shard_of
from facerec.heads.trained_rows import TrainedRows
from facerec.processes.group import ALONE, Processes, this_process

DENSE_ENTRIES = 2**22
"""The largest (B, C) for which engine="auto" uses the dense engine: 16 MB per matrix."""


@dataclass(frozen=True, kw_only=True)
class HeadOutput:
    """The output of every head for a micro-batch of B samples.

    Attributes:
        loss: scalar, the mean over the samples, with gradient; fp32, or fp64 for fp64 inputs.
        target_cos_B: fp32 or fp64 (B,), the cosine between each embedding and its class centre, in [-1, 1], with
            gradient.
        sample_losses_B: (B,), detached.
    """

    loss: torch.Tensor
    target_cos_B: torch.Tensor
    sample_losses_B: torch.Tensor


class Head(nn.Module):
    """Softmax over scaled cosines: t = s psi(c_y), z_j = s g(c_j, c_y), L = softplus(logsumexp_{j != y} z_j - t).

    A subclass defines psi in `target` and, unless it is the identity function, g in `negatives`. State that it learns
    without gradients is in buffers: they may be read at any time, and are changed only in `update_state`, which gets
    the whole global batch once at the end of every step.

    Args:
        options: see `HeadOptions`.

    Raises:
        ConfigError: an argument is out of range.
    """

    normalises = True
    centres: ClassCentres

    def __init__(self, **options: Unpack[HeadOptions]) -> None:
        super().__init__()
        given = with_defaults(options)
        self.scale = given["scale"]
        self.learned_scale = nn.Parameter(torch.tensor(float(self.scale))) if given["learn_scale"] else None
        self.label_smoothing = given["label_smoothing"]
        self.filter = None
        if given["inter_class_filter"] != "none":
            self.filter = InterClassFilter(mode=given["inter_class_filter"], threshold=given["filter_threshold"])
        self.init = given["init"]
        self.engine = given["engine"]
        self.classes_per_chunk = given["classes_per_chunk"]
        self.sample_rate = given["sample_rate"]
        self.margin_fraction = 1.0
        self.sharding = given["sharding"]
        self.processes = this_process()
        self.device_type: str | None = None
        num_classes = given["num_classes"]
        self.centres = ClassCentres(
            num_classes=num_classes,
            embedding_dim=given["embedding_dim"],
            num_sub_centres=given["num_sub_centres"],
            init_std=given["init_std"],
            seed=given["seed"],
            bias=not self.normalises,
            shard=shard_of(num_classes, self.processes) if self.is_sharded and num_classes is not None else None,
        )
        self._num_taking_part = self.centres.num_classes
        self.rows: TrainedRows | None = None
        self._draw: Draw = drawn_classes
        self._engine_named: str | None = None
        self._observed: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    # A margin overrides these.

    def target(self, cos_B: torch.Tensor, norm_B: torch.Tensor) -> torch.Tensor:
        """Computes psi from target cosines (B,) and norms of the embeddings (B,), both with gradient: (B,).

        The margins are multiplied by `margin_fraction`, so that they can be ramped up.
        """
        return cos_B

    def negatives(self, cos_BC: torch.Tensor, cos_target_B: torch.Tensor) -> torch.Tensor:
        """Computes g from cosines to other classes (B, n) and target cosines (B,), entry by entry: (B, n)."""
        return cos_BC

    def logit_scale(self, norm_B: torch.Tensor) -> float | torch.Tensor:
        """Returns s: one for all samples, or (B,)."""
        return self.scale if self.learned_scale is None else self.learned_scale.clamp(min=1e-3)

    def penalty(self, norm_B: torch.Tensor) -> torch.Tensor | None:
        """Returns what is added to each sample's loss, from the norms of the embeddings (B,); None adds nothing."""
        return None

    def start(self, step: int) -> None:
        """Updates everything that depends on the number of steps done."""

    def update_state(self, cos_B: torch.Tensor, norm_B: torch.Tensor, negatives_lse_B: torch.Tensor) -> None:
        """Updates the state that the head learns without gradients, from the target cosines, the norms of the
        embeddings and the negatives' log-sum-exp of a step's whole global batch, detached, at the end of the step."""

    # The trainer calls these.

    @property
    def is_sharded(self) -> bool:
        """True if each process holds a part of the class centres."""
        return self.sharding == "sharded" and self.processes.world_size > 1

    def assume(self, *, processes: Processes, device_type: str) -> None:
        """Turns a head with all centres into the head of one of `processes`, on a type of device.

        The head keeps its own shard, and chooses chunks for that type of device, wherever its tensors are. Call it
        before `train_rows`. Plans need it, see `facerec.bench.rehearsal`.
        """
        self.processes, self.device_type = processes, device_type
        if self.is_sharded:
            self.centres.keep(shard_of(self.centres.num_classes, processes))

    def train_rows(
        self,
        optimizer: Callable[[torch.Tensor], RowOptimizer],
        *,
        fused: bool = False,
        draw: Draw = drawn_classes,
    ) -> None:
        """Makes a row optimizer update the centres from now on, instead of torch.optim: see `TrainedRows`.

        With `fused` a step may have one micro-batch only, and no gradient scaler. `draw` chooses the classes that take
        part in a step if sample_rate is below 1.

        Raises:
            ConfigError: fused with engine="dense", or with centres that are replicated over several processes.
        """
        if fused and self.engine == "dense":
            raise ConfigError("optimizer.fused_centres=true needs head.engine=chunked (or auto), not dense")
        holders = ALONE if self.is_sharded else self.processes
        if fused and holders.world_size > 1:
            raise ConfigError(
                "optimizer.fused_centres=true updates the centres before the other processes' gradients are known: "
                "use head.sharding=sharded, or fused_centres=false"
            )
        self.rows = TrainedRows(centres=self.centres, optimizer=optimizer, fused=fused, processes=holders)
        self._draw = draw

    def start_step(
        self, step: int, *, margin_fraction: float = 1.0, labels_of_step: torch.Tensor, lr: float = 0.0
    ) -> None:
        """Prepares a step; call it before the step's first micro-batch.

        Args:
            step: number of steps done so far.
            margin_fraction: the share of the margin that is used, 0 .. 1.
            labels_of_step: int64, the labels of the global batch, on the centres' device.
            lr: the learning rate of the row optimizer, if there is one.

        Raises:
            ConfigError: sample_rate is below 1 and no row optimizer was given.
        """
        self.set_margin_fraction(margin_fraction)
        self._observed.clear()
        self.start(step)
        if self.sample_rate < 1 and self.rows is None:
            raise ConfigError(
                f"head.sample_rate is {self.sample_rate}, but nothing updates the drawn centres: call train_rows first"
            )
        if self.rows is not None:
            drawn = None
            if self.sample_rate < 1:
                drawn = self._draw(
                    seed=self.centres.seed,
                    step=step,
                    classes=self.centres.classes,
                    rate=self.sample_rate,
                    labels_of_step=labels_of_step,
                )
                self._num_taking_part = len(drawn)
                if self.is_sharded:
                    self._num_taking_part = int(self.processes.sum_(torch.tensor(len(drawn), device=drawn.device)))
                drawn -= self.centres.classes.start
            self.rows.start_step(drawn, lr=lr)

    def end_step(self, *, grad_scale: float = 1.0, skipped: bool = False) -> None:
        """Finishes a step; call it after the step's last micro-batch.

        Args:
            grad_scale: the factor by which a gradient scaler multiplied the loss.
            skipped: the optimizer left the parameters unchanged, because a gradient overflowed.
        """
        if self.rows is not None:
            self.rows.end_step(grad_scale=grad_scale, skipped=skipped)
            self._num_taking_part = self.centres.num_classes
        if self._observed:
            with torch.no_grad():
                parts = (torch.cat(values) for values in zip(*self._observed, strict=True))
                self.update_state(*(self.processes.gather(part_B) for part_B in parts))
            self._observed.clear()

    def set_margin_fraction(self, fraction: float) -> None:
        """Uses `fraction` (0 .. 1) of the margins from now on. It is not stored, because it follows from the step."""
        if not 0 <= fraction <= 1:
            raise ConfigError(f"the margin fraction is {fraction}; expected 0 (no margin) .. 1 (the whole margin)")
        self.margin_fraction = fraction

    def forward(self, emb_BD: torch.Tensor, labels_B: torch.Tensor) -> HeadOutput:
        """Computes `HeadOutput` from embeddings (B, D), of any floating type and norm, and int64 labels (B,).

        Computes in fp32 or higher, also under autocast; only the product with the negatives follows torch's float32
        matmul precision.

        Raises:
            ConfigError: the embeddings do not have D dimensions.
            DataError: a label is not in 0 .. C - 1.
        """
        _check_inputs(emb_BD, labels_B, self.centres)
        dtype = torch.promote_types(torch.promote_types(emb_BD.dtype, self.centres.weight.dtype), torch.float32)
        with torch.autocast(device_type=emb_BD.device.type, enabled=False):
            emb_BD = emb_BD.to(dtype)
            norm_B = emb_BD.norm(dim=1)
            scale = self.logit_scale(norm_B)
            given = self._engine_input(emb_BD, norm_B, labels_B, scale)
            output = self._choose_engine(given)(given)
            if self.is_sharded:
                output = merged(output, self.processes)
            cos_B, lse_B = output.target_cos_B, output.negatives_lse_B
            target_B = scale * self.target(cos_B, norm_B)
            # softplus as logaddexp: torch's softplus has a threshold that costs 1e-10 in fp64
            losses_B = torch.logaddexp(lse_B - target_B, torch.zeros_like(target_B))
            if output.logit_sum_B is not None:
                mean_logit_B = (target_B + output.logit_sum_B) / self._num_taking_part
                losses_B = losses_B + self.label_smoothing * (target_B - mean_logit_B)
            penalty_B = self.penalty(norm_B)
            if penalty_B is not None:
                losses_B = losses_B + penalty_B
        if self.training and type(self).update_state is not Head.update_state:
            self._observed.append((cos_B.detach(), norm_B.detach(), lse_B.detach()))
        if not self.normalises:
            unit_BD = given.emb_BD / given.emb_BD.norm(dim=1, keepdim=True).clamp(min=MIN_NORM)
            cos_B = target_cosines(replace(given, emb_BD=unit_BD, normalise=True, bias_C=None))
            cos_B = self.processes.own_part(cos_B) if self.is_sharded else cos_B
        return HeadOutput(loss=losses_B.mean(), target_cos_B=cos_B.clamp(-1, 1), sample_losses_B=losses_B.detach())

    def _engine_input(
        self, emb_BD: torch.Tensor, norm_B: torch.Tensor, labels_B: torch.Tensor, scale: float | torch.Tensor
    ) -> EngineInput:
        given = EngineInput(
            emb_BD=emb_BD / norm_B.clamp(min=MIN_NORM)[:, None] if self.normalises else emb_BD,
            weight_RD=self.centres.weight,
            labels_B=labels_B,
            scale=scale,
            negatives=None if type(self).negatives is Head.negatives else self.negatives,
            bias_C=self.centres.bias,
            normalise=self.normalises,
            num_sub_centres=self.centres.num_sub_centres,
            inter_class_filter=self.filter,
            wants_logit_sum=self.label_smoothing > 0,
        )
        if self.is_sharded:
            given = gathered(given, self.processes)
        given = replace(given, labels_B=self.centres.local(given.labels_B))
        if self.rows is not None and self.rows.weight_rD is not None:
            labels_B = self.rows.positions(given.labels_B)
            given = replace(given, weight_RD=self.rows.weight_rD, bias_C=self.rows.bias, labels_B=labels_B)
        return given

    def _choose_engine(self, given: EngineInput) -> Engine:
        fused = self.rows is not None and self.rows.fused
        name = self.engine
        if name == "auto":
            # the same choice on all processes, whatever the sizes of their shards
            holders = self.processes.world_size if self.is_sharded else 1
            num_rows = -(-self._num_taking_part // holders) * self.centres.num_sub_centres
            is_small = len(given.emb_BD) * num_rows <= DENSE_ENTRIES
            name = "dense" if is_small and not fused else "chunked"
        if name != self._engine_named:
            LOGGER.info("head engine: %s, for %d samples of %d classes", name, len(given.emb_BD), given.num_classes)
            self._engine_named = name
        if name == "dense":
            return dense
        row_update = self.rows.update if self.rows is not None and fused else None
        return partial(
            chunked, classes_per_chunk=self.classes_per_chunk, device_type=self.device_type, row_update=row_update
        )


def check_head(head: Any) -> None:
    """Refuses a head of the user's own class that does not derive from `Head`, or whose formulas have other shapes.

    Raises:
        ConfigError: names the class and everything that is wrong.
    """
    check_part(head, Head, key="head", kind="head", base=Head)
    if is_of_facerec(head):
        return
    cos_B, norm_B, cos_BC = torch.tensor([0.2, 0.7]), torch.ones(2), torch.tensor([[0.1, 0.3, -0.2]] * 2)
    formulas = {
        "target(cos_B, norm_B)": (lambda: head.target(cos_B, norm_B), cos_B.shape),
        "negatives(cos_BC, cos_target_B)": (lambda: head.negatives(cos_BC, cos_B), cos_BC.shape),
    }
    faults = []
    for name, (formula, shape) in formulas.items():
        try:
            with torch.no_grad():
                found = formula()
        except Exception as error:  # whatever the user's code raises
            faults.append(f"{name} fails on {len(cos_B)} cosines ({type(error).__name__}: {error})")
        else:
            returned = tuple(found.shape) if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
            if returned != tuple(shape):
                faults.append(f"{name} returns {returned} for {tuple(shape)}; expected the same shape")
    if faults:
        raise part_error(head, faults, key="head", kind="head")


def _check_inputs(emb_BD: torch.Tensor, labels_B: torch.Tensor, centres: ClassCentres) -> None:
    if emb_BD.ndim != 2 or emb_BD.shape[1] != centres.embedding_dim:
        raise ConfigError(
            f"head.embedding_dim is {centres.embedding_dim}, but the network gives embeddings of shape "
            f"{tuple(emb_BD.shape)}; expected (batch, {centres.embedding_dim}): give both the same size"
        )
    if emb_BD.device.type != "cpu":
        return  # reading the labels would wait for the device in every step; the sources check their labels
    lowest, highest = torch.stack(labels_B.aminmax()).tolist()
    if lowest < 0 or highest >= centres.num_classes:
        label = lowest if lowest < 0 else highest
        raise DataError(
            f"label {label} in the batch; head.num_classes is {centres.num_classes}, so labels are 0 .. "
            f"{centres.num_classes - 1}: check the labels of the data set, or set head.num_classes to fit it"
        )
