"""From images to embeddings: a network as an Embedder, and the flip sum of the verification protocol."""

from typing import Any

import numpy as np
import torch
from torch import nn

from facerec.core.input_spec import InputSpec
from facerec.core.protocols import Embedder
from facerec.evaluation.image_arrays import rgb_batch


def flip_sum(embed: Embedder, images_BHWC: np.ndarray) -> np.ndarray:
    """embedding(image) + embedding(image mirrored left to right), summed in double precision.

    Args:
        embed: uint8 (B, H, W, 3) -> (B, D).
        images_BHWC: uint8 (B, H, W, 3), RGB.

    Returns:
        float64 (B, D), not normalised.
    """
    mirrored = np.ascontiguousarray(images_BHWC[:, :, ::-1])
    return embed(images_BHWC).astype(np.float64) + embed(mirrored)


class NetworkEmbedder:
    """A network as an Embedder: evaluation mode, no gradients, no autocast, in batches of a fixed size.

    Args:
        network: normalised float (B, 3, H, W) -> (B, D), on any device. Its training mode is put back after each call.
        input_spec: the size, channel order and normalisation it was trained with.
        batch_size: images in one forward pass.
        flip: sum the embeddings of an image and its mirror image.
    """

    def __init__(self, *, network: nn.Module, input_spec: InputSpec, batch_size: int = 128, flip: bool = False) -> None:
        self.network = network
        self.input_spec = input_spec
        self.batch_size = batch_size
        self.flip = flip

    def __call__(self, images: Any) -> np.ndarray:
        """uint8 RGB (B, H, W, 3), or what else `rgb_batch` takes -> float32 (B, D), not normalised.

        Raises:
            DataError: no image, or images of several sizes.
            ModelError: the images are not uint8, or not of the size that the network takes.
        """
        images_BHWC = rgb_batch(images, size_px=self.input_spec.size_px)
        if self.flip:
            return flip_sum(self._embed, images_BHWC).astype(np.float32)
        return self._embed(images_BHWC)

    def _embed(self, images: np.ndarray) -> np.ndarray:
        weight = next(self.network.parameters(), torch.empty(0))
        was_training = [module for module in self.network.modules() if module.training]
        self.network.eval()
        try:
            embeddings = []
            with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
                for start in range(0, len(images), self.batch_size):
                    batch = torch.tensor(images[start : start + self.batch_size], device=weight.device)
                    pixels = self.input_spec.normalise(batch, dtype=weight.dtype)
                    embeddings.append(self.network(pixels).float().cpu())
            return torch.cat(embeddings).numpy()
        finally:
            for module in was_training:
                module.training = True
