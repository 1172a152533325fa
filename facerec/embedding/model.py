"""A stored model, ready to embed."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facerec.core.device import choose_device
from facerec.core.input_spec import InputSpec
from facerec.embedding.network_embedder import NetworkEmbedder
from facerec.networks.embedding_net import EmbeddingNet
from facerec.networks.own_parts import Trust
from facerec.networks.weights import read_model


class Model(ABC):
    """Anything that embeds aligned crops. Callers do not see what computes it, torch or another library.

    Args:
        card: the content of model.json: backbone, neck, input_spec, trained_on, thresholds.
        path: the path that it was read from.
        flip: True if the embeddings of an image and its mirror image are summed.
        note: which checkpoint of a run it is, and which one is the best; empty for anything but a run.
        warnings: notes for the user: damaged checkpoints that were skipped, parts of a file that were not used.
    """

    def __init__(
        self, *, card: dict[str, Any], path: Path, flip: bool = False, note: str = "", warnings: Sequence[str] = ()
    ) -> None:
        self.card = card
        self.path = path
        self.flip = flip
        self.note = note
        self.warnings = list(warnings)

    @property
    @abstractmethod
    def input_spec(self) -> InputSpec:
        """Returns size, channel order and normalisation of the model's training."""

    @abstractmethod
    def digest(self) -> str:
        """Returns the SHA-256 of the weights, hexadecimal; it does not depend on the model's path."""

    @abstractmethod
    def embed(self, images: Any) -> np.ndarray:
        """Embeds aligned crops, uint8 RGB (B, H, W, 3), one (H, W, 3), lists, PIL images, torch tensors (see
        `rgb_batch`) as float32 (B, D), not normalised; B = 1 for one image.

        Raises:
            DataError: there is no image, or there are several sizes.
            ModelError: the images are not uint8, or do not have the model's size.
        """

    def stream(self, batches: Iterable[Any]) -> Iterator[np.ndarray]:
        """Yields what `embed` returns for each of the batches. Raises as `embed`."""
        return map(self.embed, batches)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Calls `embed`, so that a model is an `Embedder`."""
        return self.embed(images)

    def described(self) -> dict[str, Any]:
        """Returns what the embeddings depend on besides the images, as plain values."""
        return {"weights": self.digest(), "input_spec": vars(self.input_spec), "flip": self.flip}


def open_model(
    path: str, *, device: str = "auto", batch_size: int = 128, flip: bool = False, trust: Trust = None
) -> Model:
    """Opens a model, as `facerec.load` does."""
    stored = read_model(path, trust=trust)
    network = stored.network().to(choose_device(device))
    return NetworkModel(
        network=network,
        batch_size=batch_size,
        card=stored.card,
        path=stored.path,
        flip=flip,
        note=stored.note,
        warnings=stored.warnings,
    )


class NetworkModel(Model):
    """A network of torch with its preprocessing.

    Args:
        network: in evaluation mode, on its device.
        batch_size: number of images in one forward pass.
        more: see `Model`.
    """

    def __init__(self, *, network: EmbeddingNet, batch_size: int = 128, **more: Any) -> None:
        super().__init__(**more)
        self._network = network
        self._embedder = NetworkEmbedder(
            network=network, input_spec=network.input_spec, batch_size=batch_size, flip=self.flip
        )

    @property
    def input_spec(self) -> InputSpec:
        return self._network.input_spec

    def digest(self) -> str:
        digest = hashlib.sha256()
        for name, values in self._network.state_dict().items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(values.cpu().numpy()).data)
        return digest.hexdigest()

    def embed(self, images: Any) -> np.ndarray:
        return self._embedder(images)

    def stream(self, batches: Iterable[Any]) -> Iterator[np.ndarray]:
        return self._embedder.stream(batches)
