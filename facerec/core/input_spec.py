"""The input that a network expects: size, channel order and normalisation. It is stored with every model."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from facerec.core.crop_size import DEFAULT_SIZE_PX, size_keys
from facerec.core.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The preprocessing of one network (InsightFace uses RGB and (x - 127.5) / 127.5).

    Args:
        height_px, width_px: size of the aligned crop in pixels.
        channels: "RGB" or "BGR", the order that the network was trained with. Images in facerec are always RGB.
        mean, std: the network sees (pixel - mean) / std, with pixels in 0..255.
    """

    height_px: int = DEFAULT_SIZE_PX[0]
    width_px: int = DEFAULT_SIZE_PX[1]
    channels: str = "RGB"
    mean: float = 127.5
    std: float = 127.5

    def __post_init__(self) -> None:
        if self.channels not in ("RGB", "BGR"):
            raise ModelError(f"input spec: channels is {self.channels!r}; expected 'RGB' or 'BGR'")
        if min(self.height_px, self.width_px) < 1:
            raise ModelError(f"{size_keys((self.height_px, self.width_px))}; expected positive numbers of pixels")
        if self.std <= 0:
            raise ModelError(f"input spec: std is {self.std}; expected a positive number")

    def normalise(self, images_BHWC: torch.Tensor, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """uint8 (B, H, W, 3) RGB, any device -> `dtype` (B, 3, H, W) in channels-last memory, same device.

        Raises:
            ModelError: the images are not uint8, or not of this size.
        """
        expected = (self.height_px, self.width_px, 3)
        if images_BHWC.dtype != torch.uint8 or images_BHWC.ndim != 4 or tuple(images_BHWC.shape[1:]) != expected:
            raise ModelError(
                f"images are {images_BHWC.dtype} {tuple(images_BHWC.shape)}; this network takes uint8 RGB "
                f"(batch, {self.height_px}, {self.width_px}, 3): align the photos first, with facerec align "
                f"size=[{self.height_px},{self.width_px}]"
            )
        if self.channels == "BGR":
            images_BHWC = images_BHWC.flip(-1)
        return images_BHWC.permute(0, 3, 1, 2).to(dtype).sub_(self.mean).div_(self.std)

    def denormalise(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Inverts `normalise`: (B, 3, H, W) of any float type and device -> uint8 (B, H, W, 3) RGB on the CPU."""
        pixels = (images_BCHW.detach().cpu().double() * self.std + self.mean).round().clamp(0, 255)
        pixels = pixels.to(torch.uint8).permute(0, 2, 3, 1)
        return (pixels.flip(-1) if self.channels == "BGR" else pixels).contiguous()

    def to_json(self) -> dict[str, Any]:
        """Returns the plain dictionary that is stored in model.json."""
        return asdict(self)

    @property
    def size_px(self) -> tuple[int, int]:
        """Returns height and width."""
        return self.height_px, self.width_px

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "InputSpec":
        """Inverts `to_json`. Raises ModelError for unknown keys."""
        try:
            return cls(**stored)
        except TypeError as error:
            raise ModelError(f"input spec {stored}: {error}") from None
