"""A network as an `Embedder`: evaluation mode, no gradients, no autocast; on a GPU, copies overlap the computation."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from facerec.core.input_spec import InputSpec
from facerec.embedding.image_arrays import rgb_batch


@functools.cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Returns the one stream for copies to a GPU: the allocator keeps memory for each stream."""
    return torch.cuda.Stream(device)


class NetworkEmbedder:
    """A network as an `Embedder`, in forward passes of a fixed size.

    Args:
        network: normalised float (B, 3, H, W) -> (B, D), on any device. Its training mode is restored after each pass.
        input_spec: size, channel order and normalisation of its training.
        batch_size: number of images in one forward pass.
        flip: sum the embeddings of an image and its mirror image, in double precision.
    """

    def __init__(self, *, network: nn.Module, input_spec: InputSpec, batch_size: int = 128, flip: bool = False) -> None:
        self.network = network
        self.input_spec = input_spec
        self.batch_size = batch_size
        self.flip = flip

    def __call__(self, images: Any) -> np.ndarray:
        """Embeds uint8 RGB (B, H, W, 3), or other input of `rgb_batch`, as float32 (B, D), not normalised.

        Raises:
            DataError: there is no image, or there are several sizes.
            ModelError: the images are not uint8, or do not have the network's size.
        """
        return next(self.stream([images]))

    def stream(self, batches: Iterable[Any]) -> Iterator[np.ndarray]:
        """Yields the result for each batch. On a GPU, the next batch is copied while one is computed.

        Raises:
            DataError, ModelError: see a call.
        """
        finish: Callable[[], np.ndarray] | None = None
        for images in batches:
            next_finish = self._start(rgb_batch(images, size_px=self.input_spec.size_px))
            if finish is not None:
                yield finish()
            finish = next_finish
        if finish is not None:
            yield finish()

    def _start(self, images_BHWC: np.ndarray) -> Callable[[], np.ndarray]:
        """Starts the forward passes of one batch. Returns a function that waits for them and returns float32 (B, D)."""
        views = [images_BHWC]
        if self.flip:
            views.append(np.ascontiguousarray(images_BHWC[:, :, ::-1]))
        weight = next(self.network.parameters(), torch.empty(0))
        was_training = [module for module in self.network.modules() if module.training]
        self.network.eval()
        try:
            with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
                passes = [
                    [
                        self._start_pass(view[start : start + self.batch_size], weight)
                        for start in range(0, len(view), self.batch_size)
                    ]
                    for view in views
                ]
        finally:
            for module in was_training:
                module.training = True

        def finish() -> np.ndarray:
            emb_BD, *mirrored = (np.concatenate([wait() for wait in parts]) for parts in passes)
            for more_BD in mirrored:
                emb_BD = (emb_BD.astype(np.float64) + more_BD).astype(np.float32)
            return emb_BD

        return finish

    def _start_pass(self, images: np.ndarray, weight: torch.Tensor) -> Callable[[], np.ndarray]:
        if weight.device.type != "cuda":
            pixels = torch.tensor(images, device=weight.device)
            emb_BD = self.network(self.input_spec.normalise(pixels, dtype=weight.dtype)).float().cpu()
            return lambda: emb_BD.numpy()
        copies = _copy_stream(weight.device)
        computing = torch.cuda.current_stream(weight.device)
        in_host_memory = torch.empty(images.shape, dtype=torch.uint8, pin_memory=True)
        in_host_memory.numpy()[...] = images
        with torch.cuda.stream(copies):
            pixels = in_host_memory.to(weight.device, non_blocking=True)
        computing.wait_stream(copies)
        pixels.record_stream(computing)
        emb_BD = self.network(self.input_spec.normalise(pixels, dtype=weight.dtype)).float()
        result_BD = torch.empty(emb_BD.shape, dtype=torch.float32, pin_memory=True)
        result_BD.copy_(emb_BD, non_blocking=True)
        has_arrived = torch.cuda.Event()
        has_arrived.record(computing)

        def wait() -> np.ndarray:
            has_arrived.synchronize()
            return result_BD.numpy()

        return wait
