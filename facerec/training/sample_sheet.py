"""Draws a sheet of crops as the network sees them, in TensorBoard and as a picture in the run directory."""

import torch

from facerec.core.batch import Batch
from facerec.core.errors import ConfigError
from facerec.core.input_spec import InputSpec
from facerec.runs.run_log import RunLog
from facerec.training.observers import Observer

_NUM_IMAGES, _COLUMNS = 32, 8


class SampleSheet(Observer):
    """Shows the first 32 crops of a step's first micro-batch, after all augmentation, where mistakes become visible.

    Args:
        run_log: receives it as `train/samples`; its run directory keeps the newest sheet as a picture.
        every_steps: steps between two sheets; None: the first step alone.
        input_spec: the normalisation of the images.

    Raises:
        ConfigError: every_steps is not positive.
    """

    def __init__(self, *, run_log: RunLog, every_steps: int | None, input_spec: InputSpec) -> None:
        if every_steps is not None and every_steps < 1:
            raise ConfigError(f"logging.samples_every_steps={every_steps}; expected 1 or more, or null for one sheet")
        self.run_log = run_log
        self.every_steps = every_steps
        self.input_spec = input_spec

    def is_due(self, batch: Batch) -> bool:
        """True if this process draws this micro-batch. The first micro-batch of a step belongs to the first process."""
        at_step = batch.step == 0 or (self.every_steps is not None and batch.step % self.every_steps == 0)
        return at_step and batch.micro_index == 0 and self.run_log.writes

    def before_forward(self, batch: Batch, images_BCHW: torch.Tensor) -> None:
        """Draws the sheet of a micro-batch if it is due."""
        if not self.is_due(batch):
            return
        from facerec.plots.contact_sheet import contact_sheet, image_grid

        images = self.input_spec.denormalise(images_BCHW[:_NUM_IMAGES]).numpy()
        self.run_log.image(batch.step, "train/samples", image_grid(images, columns=_COLUMNS))
        contact_sheet(images, columns=_COLUMNS, path=self.run_log.files.samples)
