"""A stored model, ready to embed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facerec.core.device import choose_device
from facerec.core.input_spec import InputSpec
from facerec.evaluation.embed import NetworkEmbedder
from facerec.networks.embedding_net import EmbeddingNet
from facerec.networks.weights import read_model


class Model:
    """A network with its preprocessing.

    Args:
        network: in evaluation mode, on its device.
        card: what model.json says: backbone, neck, input_spec, trained_on, thresholds.
        path: where it was read from.
        batch_size, flip: see `NetworkEmbedder`.
        warnings: what a user should know: damaged checkpoints that were passed over, parts of a file not taken.
    """

    def __init__(
        self,
        *,
        network: EmbeddingNet,
        card: dict[str, Any],
        path: Path,
        batch_size: int = 128,
        flip: bool = False,
        warnings: Sequence[str] = (),
    ) -> None:
        self.network = network
        self.card = card
        self.path = path
        self.warnings = list(warnings)
        self._embedder = NetworkEmbedder(
            network=network, input_spec=network.input_spec, batch_size=batch_size, flip=flip
        )

    @classmethod
    def open(cls, path: str, *, device: str = "auto", batch_size: int = 128, flip: bool = False) -> "Model":
        """See `facerec.load`."""
        stored = read_model(path)
        network = stored.network().to(choose_device(device))
        return cls(
            network=network,
            card=stored.card,
            path=stored.path,
            batch_size=batch_size,
            flip=flip,
            warnings=stored.warnings,
        )

    @property
    def input_spec(self) -> InputSpec:
        """Size, channel order and normalisation that the network was trained with."""
        return self.network.input_spec

    def embed(self, images: Any) -> np.ndarray:
        """Aligned crops, uint8 RGB (B, H, W, 3), one (H, W, 3), lists, PIL images, torch tensors; see `rgb_batch` ->
        float32 (B, D), not normalised; B = 1 for one image.

        Raises:
            DataError: no image, or images of several sizes.
            ModelError: the images are not uint8, or not of the size that the network takes.
        """
        return self._embedder(images)

    __call__ = embed  # so that a model is an `Embedder`
