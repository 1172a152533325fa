"""facerec trains face-recognition models: photos, aligned crops, margin softmax, benchmarks, a model others load."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from facerec.embedding.model import Model

__version__ = "0.1.0"


def load(
    path: str,
    *,
    device: str = "auto",
    batch_size: int = 128,
    flip: bool = False,
    trust: "str | Sequence[str] | None" = None,
) -> "Model":
    """Opens a trained model: a run directory, a checkpoint, or InsightFace's weights (`.pt`, `.pth`, `.safetensors`).

    Args:
        path: path of the model; `runs/a@best` and `runs/a@step-400` choose a checkpoint of a run, else the last is
            taken. The result's `note`, which is logged too, says which it was.
        device: auto (CUDA, else CPU), cpu, cuda.
        batch_size: number of images in one forward pass.
        flip: sum the embeddings of an image and its mirror image, as the benchmarks do.
        trust: the package (or several) whose network classes the model may name. Opening such a model imports this
            package and runs its code. Without it, nothing outside facerec is imported or run.

    Returns:
        An object with `.embed(images)`, which embeds aligned crops, uint8 RGB, as float32 (B, 512), not normalised.
        Images are an array (B, 112, 112, 3), one (112, 112, 3), a list, PIL images or a torch tensor; for OpenCV's BGR,
        pass the view `image[..., ::-1]`.

    Raises:
        facerec.core.errors.FacerecError: the model does not exist, is damaged, or names a class of a package that is
            not in `trust`.
    """
    from facerec.core.log import LOGGER
    from facerec.embedding.model import open_model

    model = open_model(path, device=device, batch_size=batch_size, flip=flip, trust=trust)
    if model.note:
        LOGGER.info("model %s", model.note)
    return model
