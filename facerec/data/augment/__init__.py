"""Augmentation: transforms by name, per sample on the CPU or batched on the device."""

from facerec.data.augment.augment import Augment

__all__ = ["Augment"]
