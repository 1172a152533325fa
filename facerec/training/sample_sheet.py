"""A sheet of crops as the network sees them, in TensorBoard and as a picture in the run directory."""

import torch

from facerec.core.batch import Batch
from facerec.core.errors import ConfigError
from facerec.core.input_spec import InputSpec
from facerec.runs.run_log import RunLog

_NUM_IMAGES, _COLUMNS = 32, 8


class SampleSheet:
    """Shows the first 32 crops of a step's first micro-batch, after all augmentation: a mistake there is soon seen.

    Args:
        run_log: where it goes, as `train/samples`, and whose run directory keeps the newest as a picture.
        every_steps: steps between two sheets; None: the first step alone.

    Raises:
        ConfigError: every_steps is not positive.
    """

    def __init__(self, *, run_log: RunLog, every_steps: int | None) -> None:
        if every_steps is not None and every_steps < 1:
            raise ConfigError(f"logging.samples_every_steps={every_steps}; expected 1 or more, or null for one sheet")
        self.run_log = run_log
        self.every_steps = every_steps

    def is_due(self, batch: Batch) -> bool:
        """Whether this process shows this micro-batch. The first micro-batch of a step is the first process's."""
        at_step = batch.step == 0 or (self.every_steps is not None and batch.step % self.every_steps == 0)
        return at_step and batch.micro_index == 0 and self.run_log.writes

    def show(self, batch: Batch, images_BCHW: torch.Tensor, *, input_spec: InputSpec) -> None:
        """Writes the sheet of a micro-batch where it is due.

        Args:
            batch: whose step and number are looked at.
            images_BCHW: its images as they enter the network.
            input_spec: by which they were normalised.
        """
        if not self.is_due(batch):
            return
        from facerec.plots.contact_sheet import contact_sheet, image_grid

        images = input_spec.denormalise(images_BCHW[:_NUM_IMAGES]).numpy()
        self.run_log.image(batch.step, "train/samples", image_grid(images, columns=_COLUMNS))
        contact_sheet(images, columns=_COLUMNS, path=self.run_log.files.samples)
