"""Class centres that a row optimizer updates instead of torch.optim: sampled ones (Partial FC), and fused updates."""

from facerec.core.errors import ConfigError
from facerec.heads.head import Head
from facerec.heads.sampling import Draw, drawn_classes
from facerec.training.freezing import Freezing
from facerec.training.optimizer import CENTRES, OptimizerSettings, lr_factor_of
from facerec.training.part_names import entry_for
from facerec.training.precision import Precision


class CentreRows:
    """Gives a head its row optimizer if it needs one, and refuses options that exclude each other.

    Args:
        head: the head on its device, in its dtype; None for a training without a head.
        optimizer: the method, and its option of fused updates.
        num_micro_batches: number of micro-batches of this process in a step.
        precision: the precision of the training.
        freeze: the frozen parts.
        draw: see `Head.train_rows`.

    Attributes:
        lr_factor: the factor on the learning rate of the centres.

    Raises:
        ConfigError: fused_centres without a head, with several micro-batches, with fp16, or with the dense engine;
            rows with a row optimizer while the head is frozen.
    """

    def __init__(
        self,
        head: Head | None,
        *,
        optimizer: OptimizerSettings,
        num_micro_batches: int,
        precision: Precision,
        freeze: Freezing,
        draw: Draw = drawn_classes,
    ) -> None:
        self.lr_factor = lr_factor_of(CENTRES, optimizer.lr_factors)
        fused = optimizer.fused_centres
        if fused and head is None:
            raise ConfigError("optimizer.fused_centres=true, but there is no head whose centres it could update")
        if fused and num_micro_batches > 1:
            raise ConfigError(
                "optimizer.fused_centres=true updates the centres in every backward pass, but a step has "
                f"{num_micro_batches} of them: set trainer.micro_batch_size to data.global_batch_size, or "
                "fused_centres=false"
            )
        if fused and precision == "fp16":
            raise ConfigError(
                "optimizer.fused_centres=true updates the centres before the gradient scaler of fp16 knows whether the "
                "step counts: use trainer.precision=bf16, or fused_centres=false"
            )
        if head is None or not (fused or head.sample_rate < 1):
            return
        entry = entry_for(CENTRES, freeze.epochs)
        if entry is not None and freeze.epochs[entry] != 0:
            raise ConfigError(
                "freeze.epochs freezes the head, whose centres are updated by rows (head.sample_rate below 1, or "
                "optimizer.fused_centres=true): freeze another part, or train all centres with torch.optim"
            )
        head.train_rows(optimizer.row_optimizer, fused=fused, draw=draw)
