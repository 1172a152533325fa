"""Reads InsightFace's verification files (`.bin`), pairs of face crops, without running code from the file.

Such a file is a pickle of (images, issame): pair i is images[2i] and images[2i + 1]. Images are encoded bytes or numpy
uint8 arrays; the pickle was written by Python 2 or 3, with NumPy 1 or 2.
"""

import codecs
import hashlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from facerec.align.photo_reader import decode_rgb
from facerec.core.atomic_file import atomic_file
from facerec.core.errors import DataError
from facerec.core.file_kind import FileKind, look_at


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """A verification set in memory, with encoded images.

    Attributes:
        path: the file that it was read from; for messages.
        images: 2 P items: encoded bytes, or uint8 (H, W, 3) RGB if the file holds decoded images.
        is_same: bool (P,): True if images 2i and 2i + 1 show one person.
    """

    path: Path
    images: list[bytes | np.ndarray]
    is_same: np.ndarray

    def __len__(self) -> int:
        return len(self.is_same)

    @cached_property
    def distinct(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers of the different images, int64 (U,), ascending; and which of the U each image is, (2 P,).

        Sets with many pairs of few photos hold each photo many times, but it needs to be embedded only once.
        """
        places: dict[bytes, int] = {}
        numbers: list[int] = []
        which = np.empty(len(self.images), dtype=np.int64)
        for number, image in enumerate(self.images):
            digest = hashlib.sha256(image if isinstance(image, bytes) else f"{image.shape}".encode() + image.tobytes())
            which[number] = place = places.setdefault(digest.digest(), len(numbers))
            if place == len(numbers):
                numbers.append(number)
        return np.array(numbers, dtype=np.int64), which

    def decode(self, index: int) -> np.ndarray:
        """Returns image `index` of 2 P as uint8 (H, W, 3) RGB. Raises DataError, naming file and image."""
        image = self.images[index]
        return image if isinstance(image, np.ndarray) else decode_rgb(image, where=f"{self.path}, image {index}")


def read_pairs(path: Path) -> Pairs:
    """Reads a verification file.

    Raises:
        DataError: the file is missing, is not such a pickle, or names objects that a verification file does not need
            (the message names them; none of them is called).
    """
    found_images, found_truths = read_lists(path)
    images = [as_image(item, f"{path}, image {i}") for i, item in enumerate(found_images)]
    is_same = [as_truth(item, f"{path}, pair {i}") for i, item in enumerate(found_truths)]
    if len(images) != 2 * len(is_same) or not is_same:
        raise DataError(f"{path}: {len(images)} images for {len(is_same)} pairs; expected two images for each")
    return Pairs(path=path, images=images, is_same=np.array(is_same, dtype=bool))


def read_lists(path: Path) -> tuple[list[Any], list[Any]]:
    """Returns the two lists of a verification file, unchecked; see `as_image` and `as_truth`. Raises as `read_pairs`.

    It is for examining a damaged set.
    """
    try:
        look = look_at(path)
        if look.kind not in (FileKind.PICKLE, FileKind.UNKNOWN, FileKind.TEXT):  # protocol 0 reads as text
            raise DataError(look.not_itself() or f"{path} is {look.kind.value}, not a verification file (.bin)")
        with open(path, "rb") as file:
            content = _load_restricted(file, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror}); expected a verification file (.bin)") from None
    if not (isinstance(content, list | tuple) and len(content) == 2):
        raise DataError(f"{path}: holds a {type(content).__name__}; expected the two lists (images, issame)")
    return _items(content[0], f"{path}: the images"), _items(content[1], f"{path}: issame")


def write_pairs(path: Path, images: Sequence[bytes], is_same: Sequence[bool]) -> None:
    """Writes a verification file that InsightFace can read too; the file is complete or absent.

    Args:
        path: the `.bin`; its folder is made if absent.
        images: 2 P encoded images; pair i is images[2i] and images[2i + 1].
        is_same: P truth values.

    Raises:
        DataError: the numbers do not fit.
    """
    if len(images) != 2 * len(is_same) or len(is_same) == 0:
        raise DataError(f"{path}: {len(images)} images for {len(is_same)} pairs; expected two images for each")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        dump_pairs(file, images, is_same)


def dump_pairs(file: BinaryIO, images: Sequence[bytes], is_same: Sequence[bool]) -> None:
    """Returns the content of a verification file; see `write_pairs`."""
    pickle.dump(([bytes(image) for image in images], [bool(same) for same in is_same]), file, protocol=4)


def _load_restricted(file: BinaryIO, path: Path) -> Any:
    try:
        return _RestrictedUnpickler(file, encoding="bytes").load()
    except _RefusedError as error:
        raise DataError(
            f"{path}: its pickle names {error}, which no verification file needs. Nothing was executed. "
            "Do not use this file; get it again from a source that you trust"
        ) from None
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise DataError(
            f"{path}: is not a verification file, or is damaged or incomplete ({type(error).__name__}: {error})"
        ) from None


class _RefusedError(pickle.UnpicklingError):
    """The file names an object that is not on the list."""


class _Array:
    """Replaces a numpy array while the file is read: it keeps the arguments, and NumPy's code never gets them."""

    __slots__ = ("data", "dtype", "order", "shape")

    def __init__(self, data: Any = None, dtype: Any = None, shape: Any = None, order: Any = "C") -> None:
        self.data, self.dtype, self.shape, self.order = data, dtype, shape, order

    def __setstate__(self, state: Any) -> None:
        _version, self.shape, self.dtype, is_column_major, self.data = state
        self.order = "F" if is_column_major else "C"

    def to_numpy(self, where: str) -> np.ndarray:
        """Returns the array over the file's bytes. Raises DataError if it is damaged, or of another type."""
        code = self.dtype.code if isinstance(self.dtype, _Dtype) else "no dtype"
        if code not in ("u1", "b1", "i4", "i8"):
            raise DataError(f"{where}: an array of {code}; expected uint8 or bool")
        try:
            return np.frombuffer(self.data, dtype=f"<{code}").reshape(self.shape, order=self.order)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{where}: a damaged array ({error})") from None


class _Dtype:
    """Replaces a numpy dtype: keeps its code, such as u1."""

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        pass  # byte order, alignment, field names: they do not matter for the codes accepted below


class _Allowed:
    """A callable that a pickle may name. It has no attributes and no state, so that a pickle cannot modify it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("the file tries to alter an object that it may only call")


def _make_dtype(code: str | bytes, *_align_and_copy: Any) -> _Dtype:
    return _Dtype(code if isinstance(code, str) else code.decode("ascii"))


def _encode(text: str, encoding: str | bytes = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1", b"latin1", b"latin-1"):
        raise pickle.UnpicklingError("text that is not encoded as latin1")
    return codecs.encode(text, "latin1")


def _make_bytes(content: Any = b"", encoding: str = "latin1") -> bytes:
    return _encode(content, encoding) if isinstance(content, str) else bytes(memoryview(content))


_NUMPY = ("numpy.core.", "numpy._core.")
_ALLOWED: dict[str, Callable[..., Any]] = {
    "_codecs.encode": _encode,
    **{f"{module}.{name}": _make_bytes for module in ("builtins", "__builtin__") for name in ("bytes", "bytearray")},
    "numpy.ndarray": lambda *_: None,
    "numpy.dtype": _make_dtype,
    **{f"{core}multiarray._reconstruct": lambda *_: _Array() for core in _NUMPY},
    **{f"{core}multiarray.scalar": lambda dtype, data: _Array(data, dtype, ()) for core in _NUMPY},
    **{f"{core}numeric._frombuffer": _Array for core in _NUMPY},
}


# This uses the unpickler written in Python. The one in C allocates as many objects as a number in the file demands. A
# full-sized set (12,000 images) takes the Python unpickler well under a second.
class _RestrictedUnpickler(pickle._Unpickler):  # type: ignore[name-defined, misc]
    def find_class(self, module: str, name: str) -> _Allowed:
        call = _ALLOWED.get(f"{module}.{name}")
        if call is None:
            raise _RefusedError(f"{module}.{name}")
        return _Allowed(call)


def _items(content: Any, where: str) -> list[Any]:
    if isinstance(content, _Array):
        array = content.to_numpy(where)
        content = list(array) if array.ndim else array
    if not isinstance(content, list | tuple):
        raise DataError(f"{where}: a {type(content).__name__}; expected a list")
    return list(content)


def as_image(item: Any, where: str) -> bytes | np.ndarray:
    """Converts an item of the first list: encoded bytes, or uint8 (H, W, 3). Raises DataError, with `where` first."""
    if isinstance(item, bytes | bytearray):
        return bytes(item)
    array = item.to_numpy(where) if isinstance(item, _Array) else item
    if isinstance(array, np.ndarray) and array.dtype == np.uint8:
        if max(array.shape, default=0) == array.size:  # (n,), or (n, 1) from older OpenCV encoders
            return bytes(item.data) if isinstance(item, _Array) else array.tobytes()
        if array.ndim == 3 and array.shape[2] == 3:
            return array
    found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(item).__name__
    raise DataError(f"{where}: {found}; expected encoded bytes, or uint8 (H, W, 3)")


def as_truth(item: Any, where: str) -> bool:
    """Converts an item of the second list. Raises DataError, with `where` first."""
    value = item.to_numpy(where)[()] if isinstance(item, _Array) and item.shape == () else item
    if not isinstance(value, bool | int | np.bool_ | np.integer):
        raise DataError(f"{where}: issame is a {type(value).__name__}; expected True or False")
    if value not in (0, 1):
        raise DataError(f"{where}: issame is {value}; expected True or False")
    return bool(value)
