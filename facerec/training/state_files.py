"""The tensors of a training on disk, in torch's distributed checkpoint format (DCP): written by any number of
processes, read by any other number.

Some tensors are sharded, one shard per process, cut along their first dimension like torch's chunk; the others are
equal on all processes, and one of them writes each.
"""

import io
import pathlib
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.api import CheckpointException

from facerec.core.errors import CheckpointError
from facerec.heads.shards import shard_of
from facerec.processes.group import Processes

_METADATA_FILE = ".metadata"
_CLASSES = {
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"): filesystem._StorageInfo,
    ("pathlib", "PosixPath"): pathlib.PurePosixPath,
    ("pathlib._local", "PosixPath"): pathlib.PurePosixPath,  # its name in Python 3.13
    **{
        ("torch.distributed.checkpoint.metadata", name): getattr(metadata, name)
        for name in (
            "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta",
            "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
        )
    },
}  # fmt: skip
"""The classes in the metadata of plain tensors, besides torch's dtypes."""


def write_tensors(
    directory: Path,
    tensors: Mapping[str, torch.Tensor],
    *,
    shard_lengths: Mapping[str, int],
    processes: Processes,
) -> None:
    """Writes tensors into an empty or absent directory. All processes must call it.

    Args:
        directory: on a file system that all processes see.
        tensors: on any device.
        shard_lengths: for the names of sharded tensors, the length of the whole.
        processes: the processes that hold shards.

    Raises:
        OSError: on all processes, if one of them could not write.
    """
    plain: dict[str, Any] = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    for name, length in shard_lengths.items():
        plain[name] = _as_shard(plain[name], length, processes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        try:
            dcp.save(
                plain,
                # without copying ahead, for which torch uses any GPU although all tensors are on the CPU
                storage_writer=_Writer(directory, per_thread_copy_ahead=0),
                process_group=processes.group,
                no_dist=processes.world_size == 1,
            )
        except CheckpointException as error:
            raise _cause(error) from None


def read_tensors(
    directory: Path, *, is_sharded: Callable[[str], bool], processes: Processes
) -> dict[str, torch.Tensor]:
    """Reads all tensors to the CPU; of sharded ones, this process's part. All processes must call it.

    Raises:
        CheckpointError: on the processes that cannot read; names the file.
    """
    reader = _Reader(directory)
    stored = reader.read_metadata().state_dict_metadata
    state: dict[str, Any] = {}
    for name, about in stored.items():
        if not isinstance(about, metadata.TensorStorageMetadata):
            raise CheckpointError(f"{directory}: {name} is not a tensor; the checkpoint was not written by facerec")
        shape, dtype = about.size, about.properties.dtype
        if is_sharded(name) and processes.world_size > 1:
            own = torch.empty(len(shard_of(shape[0], processes)), *shape[1:], dtype=dtype)
            state[name] = _as_shard(own, shape[0], processes)
        else:
            state[name] = torch.empty(shape, dtype=dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        try:
            dcp.load(state, storage_reader=reader, no_dist=processes.world_size == 1)
        except CheckpointException as error:
            raise CheckpointError(f"{directory} cannot be read ({_cause(error)}); the checkpoint is damaged") from None
    return {name: getattr(tensor, "_local_tensor", tensor) for name, tensor in state.items()}


def _as_shard(own: torch.Tensor, length: int, processes: Processes) -> Any:
    """Returns this process's part as a part of the whole, which DCP cuts again on loading."""
    if processes.world_size == 1:
        return own
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Shard

    own = own.contiguous()
    # uses the existing group: on machines with GPUs, init_device_mesh makes a new group for every mesh over gloo
    group: Any = torch.distributed.group.WORLD if processes.group is None else processes.group
    mesh = DeviceMesh.from_group(group, "cpu")
    shape = torch.Size((length, *own.shape[1:]))
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(own, mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)


def _cause(error: CheckpointException) -> OSError:
    """Returns the error of the first process that failed."""
    cause = next(iter(error.failures.values()))[0]
    return cause if isinstance(cause, OSError) else OSError(f"{type(cause).__name__}: {cause}")


class _Writer(filesystem.FileSystemWriter):
    """DCP's writer, which also reports the system's reason for a failed write."""

    def write_data(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().write_data(*arguments, **options)
        except RuntimeError as error:  # torch's file format reports an incomplete file before the cause arrives
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


class _Reader(filesystem.FileSystemReader):
    """DCP's reader, without its metadata reader, which would run a pickle."""

    def read_metadata(self, *_args: Any, **_kwargs: Any) -> metadata.Metadata:
        path = Path(self.path) / _METADATA_FILE
        try:
            found = _RestrictedUnpickler(io.BytesIO(path.read_bytes())).load()
        except Exception as error:  # a damaged pickle can fail in any way
            raise CheckpointError(f"{path} cannot be read ({error}). Nothing in it was executed") from None
        if not isinstance(found, metadata.Metadata):
            raise CheckpointError(f"{path} holds a {type(found).__name__}, not the metadata of a checkpoint")
        return found


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (found := _CLASSES.get((module, name))) is not None:
            return found
        dtype = getattr(torch, name, None) if module == "torch" else None
        if isinstance(dtype, torch.dtype):
            return dtype
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no checkpoint of facerec needs")
