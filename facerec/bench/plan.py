"""Describes a planned training, and the bytes that each of its processes will hold and send, by kind and moment."""

from collections.abc import Callable
from dataclasses import dataclass

from facerec.core.errors import ConfigError
from facerec.heads.head import Head
from facerec.heads.shards import shard_of
from facerec.networks.embedding_net import EmbeddingNet
from facerec.processes.group import Processes
from facerec.training.data_parallel import Compression
from facerec.training.optimizer import OptimizerSettings
from facerec.training.precision import Precision

WEIGHTS = "network: weights"
STATE = "network: optimizer state"
AVERAGE = "network: moving average"
GRADIENTS = "network: gradients"
BUCKETS = "network: gradients in DDP's buckets"
ACTIVATIONS = "network: activations"
TEMPORARIES = "temporaries"
CENTRES = "class centres"
CENTRE_STATE = "class centres: optimizer state"
DRAWN = "class centres: copy of those drawn"
CENTRE_GRADIENT = "class centres: gradient"
GATHERED = "head: gathered embeddings"
SCRATCH = "head: engine's scratch"
KINDS = (
    WEIGHTS, STATE, AVERAGE, GRADIENTS, BUCKETS, ACTIVATIONS, TEMPORARIES, CENTRES, CENTRE_STATE, DRAWN,
    CENTRE_GRADIENT, GATHERED, SCRATCH,
)  # fmt: skip

HEAD, BACKWARD, UPDATE = "head", "network's backward", "update"
MOMENTS = (HEAD, BACKWARD, UPDATE)
"""head: the whole forward pass, and the backward pass down to the embeddings."""

NETWORK_SUMS = "network's gradients: all-reduce"
CENTRE_SUMS = "centres' gradients: all-reduce"
EMBEDDINGS = "embeddings: all-gather"
EMBEDDING_GRADIENTS = "embeddings' gradients: reduce-scatter"
SAMPLES = "labels, and numbers per sample"
MESSAGES = (NETWORK_SUMS, CENTRE_SUMS, EMBEDDINGS, EMBEDDING_GRADIENTS, SAMPLES)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training to plan.

    Args:
        make_network: builds the network on the default device.
        make_head: builds the head for num_classes=... on the default device.
        num_classes: C.
        optimizer: see `OptimizerSettings`.
        world_size: number of processes.
        is_sharded: True if each process holds a part of the class centres; else each holds all.
        global_batch_size, micro_batch_size: see `BatchLoader`.
        precision: see `TrainerSettings`.
        has_average: True if a moving average of the weights is kept.
        compression: see `TrainerSettings.compress_gradients`.
        on_gpu: chunks are larger there, and the optimizer takes all tensors of the network at once.

    Raises:
        ConfigError: the processes cannot share the global batch evenly.
    """

    make_network: Callable[[], EmbeddingNet]
    make_head: Callable[..., Head]
    num_classes: int
    optimizer: OptimizerSettings
    world_size: int = 1
    is_sharded: bool = True
    global_batch_size: int
    micro_batch_size: int
    precision: Precision = "fp32"
    has_average: bool = False
    compression: Compression = "none"
    on_gpu: bool = True

    def __post_init__(self) -> None:
        if self.micro_batch_size < 1 or self.global_batch_size % (self.micro_batch_size * self.world_size):
            raise ConfigError(
                f"data.global_batch_size={self.global_batch_size} in micro-batches of {self.micro_batch_size} "
                f"(trainer.micro_batch_size) cannot be shared evenly by {self.world_size} processes: change one of them"
            )

    @property
    def num_micro_batches(self) -> int:
        """Number of micro-batches of each process in a step."""
        return self.global_batch_size // (self.micro_batch_size * self.world_size)

    @property
    def num_holders(self) -> int:
        """Number of processes that share the class centres."""
        return self.world_size if self.is_sharded else 1

    @property
    def num_own_classes(self) -> int:
        """Number of classes in the largest shard."""
        return len(shard_of(self.num_classes, Processes(world_size=self.num_holders)))

    @property
    def num_head_samples(self) -> int:
        """Number of samples in the head's computation: with shards, the samples of all processes."""
        return self.micro_batch_size * self.num_holders


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The bytes that the process with the largest shard holds and sends.

    Attributes:
        held_bytes: for each of `MOMENTS`, the bytes of each of `KINDS` when their sum is largest.
        sent_bytes: the bytes of each of `MESSAGES` in a step, if every collective uses a ring.
    """

    held_bytes: dict[str, dict[str, int]]
    sent_bytes: dict[str, int]

    @property
    def peak_moment(self) -> str:
        """The moment with the most bytes."""
        return max(self.held_bytes, key=lambda moment: sum(self.held_bytes[moment].values()))

    @property
    def peak_bytes(self) -> int:
        """The most bytes that are held at any moment."""
        return sum(self.held_bytes[self.peak_moment].values())
