"""The sheet shows what the network sees, when it is asked for, and only the first process draws it."""

import cv2
import numpy as np
import pytest
import torch

from facerec.core.batch import Batch
from facerec.core.errors import ConfigError
from facerec.core.input_spec import InputSpec
from facerec.plots.contact_sheet import image_grid
from facerec.runs.run_log import RunLog
from facerec.training.sample_sheet import SampleSheet


def batch(step: int, micro_index: int = 0, *, num: int = 40) -> Batch:
    images = np.random.Generator(np.random.Philox(2 * step + micro_index)).integers(
        0, 256, (num, 6, 5, 3), dtype=np.uint8
    )
    return Batch(
        images=torch.from_numpy(images),
        labels=torch.zeros(num, dtype=torch.int64),
        indices=torch.arange(num),
        step=step,
        micro_index=micro_index,
    )


def sheets(folder) -> dict[int, np.ndarray]:
    """The pictures in TensorBoard, uint8 RGB, by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    if "train/samples" not in events.Tags()["images"]:
        return {}
    encoded = {event.step: event.encoded_image_string for event in events.Images("train/samples")}
    return {step: cv2.imdecode(np.frombuffer(png, np.uint8), 1)[:, :, ::-1] for step, png in encoded.items()}


def picture(folder) -> np.ndarray:
    return cv2.imread(str(folder / "samples.png"))[:, :, ::-1]


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_first_32_of_what_the_network_is_given_lie_on_the_sheet(channels, tmp_path):
    spec = InputSpec(height_px=6, width_px=5, channels=channels)
    run_log = RunLog(run_dir=tmp_path)
    run_log.start(0)
    given = batch(0)
    augmented = given.images.flip(2)
    sheet = SampleSheet(run_log=run_log, every_steps=None, input_spec=spec)
    sheet.before_forward(given, spec.normalise(augmented))
    run_log.close()
    expected = image_grid(augmented[:32].numpy(), columns=8)
    assert np.array_equal(picture(tmp_path), expected)
    assert np.array_equal(sheets(tmp_path)[0], expected)


@pytest.mark.parametrize(("every_steps", "shown"), [(None, [0]), (3, [0, 3, 6]), (1, list(range(8)))])
def test_sheets_come_at_the_interval_and_the_file_is_the_newest(every_steps, shown, tmp_path):
    spec = InputSpec(height_px=6, width_px=5)
    run_log = RunLog(run_dir=tmp_path)
    run_log.start(0)
    sheet = SampleSheet(run_log=run_log, every_steps=every_steps, input_spec=spec)
    for step in range(8):
        for micro_index in (0, 1):
            of_step = batch(step, micro_index, num=4)
            sheet.before_forward(of_step, spec.normalise(of_step.images))
    run_log.close()
    assert sorted(sheets(tmp_path)) == shown
    assert np.array_equal(picture(tmp_path), image_grid(batch(shown[-1], num=4).images.numpy(), columns=8))


def test_other_processes_and_runs_without_tensorboard(tmp_path):
    spec = InputSpec(height_px=6, width_px=5)
    given = batch(0)
    other = RunLog(run_dir=tmp_path / "other", writes=False)
    SampleSheet(run_log=other, every_steps=None, input_spec=spec).before_forward(given, spec.normalise(given.images))
    assert not (tmp_path / "other").exists()
    without = RunLog(run_dir=tmp_path / "first", tensorboard=False)
    SampleSheet(run_log=without, every_steps=None, input_spec=spec).before_forward(given, spec.normalise(given.images))
    assert [path.name for path in (tmp_path / "first").iterdir()] == ["samples.png"]


@pytest.mark.parametrize("every_steps", [0, -5])
def test_interval_that_is_none_is_refused(every_steps, tmp_path):
    with pytest.raises(ConfigError, match=rf"logging\.samples_every_steps={every_steps}; expected 1 or more, or null"):
        SampleSheet(
            run_log=RunLog(run_dir=tmp_path), every_steps=every_steps, input_spec=InputSpec(height_px=6, width_px=5)
        )


def test_training_draws_the_first_batch_after_all_augmentation_and_again_when_due(make_trainer):
    transforms = ({"GaussNoise": {"p": 1.0}},)
    on_device = ({"HorizontalFlip": {"p": 1.0}},)
    trainer = make_trainer(
        num_steps=5, tensorboard=True, samples_every_steps=2, transforms=transforms, on_device=on_device
    )
    trainer.fit()
    found = sheets(trainer.run_log.files.path)
    batches = {each.step: each for each in trainer.loader.batches(first_step=0, end_step=5)}
    assert sorted(found) == [0, 2, 4]
    for step, sheet in found.items():
        assert np.array_equal(sheet, image_grid(batches[step].images.flip(2).numpy(), columns=8))
    assert np.array_equal(picture(trainer.run_log.files.path), found[4])
