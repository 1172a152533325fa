"""A set is embedded into files once, whatever of it cannot be read, however often it is killed, by any processes."""

import itertools
import json
import re
import resource
from pathlib import Path

import numpy as np
import pytest

from facerec.core.errors import ConfigError, DataError, ModelError
from facerec.core.log import LOGGER
from facerec.core.protocols import Embedder
from facerec.embedding import embed_set as module
from facerec.embedding.embed_set import ABOUT_FILE, EMBEDDINGS_FILE, SHARDS_FOLDER, embed_set
from facerec.embedding.loop import Embeddings, Loop
from tests.integration.training_runs import flip_byte
from tests.processes import run_processes

NUM_IMAGES, DIM = 23, 6
UNREADABLE = (0, 7, 8, 22)
CORNERS_FILE = "corners.npy"


class Images:
    """Numbered images, of which some cannot be read."""

    num_classes = 2
    labels = np.arange(NUM_IMAGES) % 2

    def __init__(self, unreadable: tuple[int, ...] = UNREADABLE) -> None:
        self.unreadable = unreadable
        self.num_read = 0

    def __len__(self) -> int:
        return NUM_IMAGES

    def image(self, index: int) -> np.ndarray:
        self.num_read += 1
        if index in self.unreadable:
            raise DataError(f"image {index} is incomplete")
        return np.random.default_rng(index).integers(0, 256, (112, 112, 3), dtype=np.uint8)

    def name(self, index: int) -> str:
        return f"image {index}"

    def fingerprint(self) -> str:
        return f"without {self.unreadable}"


class Embedding:
    """The first pixels, and how many images came at once."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.sizes.append(len(images))
        return images[:, 0, 0:2].reshape(len(images), DIM).astype(np.float32) + 1


def corner(image: np.ndarray) -> np.ndarray:
    return image[0, 0] / np.float32(256)


def embedded(
    folder: Path, images: Images, embed: Embedder | None = None, *, weights: str = "weights", **changes
) -> Embeddings:
    loop = Loop(**{"batch_size": 5, "num_threads": 3, "unit_length": True, "beside": {"corners": corner}, **changes})
    return embed_set(images, embed or Embedding(), folder, loop, described={"weights": weights})


def test_rows_are_those_of_the_images_and_zeros_where_one_cannot_be_read(tmp_path):
    embed = Embedding()
    found = embedded(tmp_path, Images(), embed)
    assert found.unreadable == {index: f"image {index} is incomplete" for index in UNREADABLE}
    assert embed.sizes == [4, 3, 5, 5, 2]
    assert found.emb_ND.dtype == found.beside["corners"].dtype == np.float16 and isinstance(found.emb_ND, np.memmap)
    for index in range(NUM_IMAGES):
        if index in UNREADABLE:
            assert not found.emb_ND[index].any() and not found.beside["corners"][index].any()
        else:
            image = Images().image(index)
            expected = Embedding()(image[None])[0]
            assert np.allclose(found.emb_ND[index], expected / np.linalg.norm(expected), atol=1e-3)
            assert np.allclose(found.beside["corners"][index], corner(image), atol=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CORNERS_FILE, ABOUT_FILE, EMBEDDINGS_FILE]


def test_a_batch_of_which_nothing_can_be_read_leaves_the_others_where_they_are(tmp_path):
    found = embedded(tmp_path, Images((0, 1, 2, 3, 4, 7, 20, 21, 22)))
    whole = embedded(tmp_path / "whole", Images(()))
    for index in range(NUM_IMAGES):
        expected = np.zeros(DIM) if index in found.unreadable else whole.emb_ND[index]
        assert np.array_equal(found.emb_ND[index], expected)


def test_a_second_look_reads_nothing_and_another_set_or_model_everything(tmp_path):
    source = Images()
    first = np.array(embedded(tmp_path, source).emb_ND)
    again = embedded(tmp_path, source)
    assert source.num_read == NUM_IMAGES and np.array_equal(again.emb_ND, first)
    assert again.unreadable == {index: f"image {index} is incomplete" for index in UNREADABLE}
    embedded(tmp_path, source, weights="other weights")
    assert source.num_read == 2 * NUM_IMAGES
    assert embedded(tmp_path, Images((3,)), weights="other weights").unreadable.keys() == {3}


class KilledError(Exception):
    """In the place of a signal."""


@pytest.mark.parametrize("num_shards", [3, 64])
def test_a_killed_run_goes_on_and_ends_with_the_same_files(num_shards, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WANTED_SHARDS", num_shards)
    embedded(tmp_path / "whole", Images())
    for num_calls in itertools.count(1):

        class Dying(Embedding):
            def __call__(self, images: np.ndarray) -> np.ndarray:
                if len(self.sizes) == num_calls:  # noqa: B023
                    raise KilledError
                return super().__call__(images)

        source, folder = Images(), tmp_path / f"after_{num_calls}"
        try:
            embedded(folder, source, Dying())
            break
        except KilledError:
            pass
        num_done = len(list((folder / SHARDS_FOLDER).glob("*.npz")))
        per_shard = 2 if num_shards == 3 else 1
        assert num_done == num_calls // per_shard
        embed = Embedding()
        embedded(folder, source, embed)
        assert len(embed.sizes) == 5 - num_done * per_shard
        for name in (EMBEDDINGS_FILE, CORNERS_FILE, ABOUT_FILE):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert num_calls == 5


def test_shards_of_other_embeddings_are_not_taken(tmp_path):
    def dying(images: np.ndarray) -> np.ndarray:
        if len(images) == 3:
            raise KilledError
        return np.full((len(images), DIM), 7, dtype=np.float32)

    with pytest.raises(KilledError):
        embedded(tmp_path, Images(), dying, weights="other")
    assert np.array_equal(embedded(tmp_path, Images()).emb_ND, embedded(tmp_path / "whole", Images()).emb_ND)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("damage", [cut_short, flip_byte])
def test_a_damaged_shard_is_named_and_embedded_anew(damage, tmp_path, monkeypatch):
    monkeypatch.setattr(module._Files, "join_shards", lambda files: (_ for _ in ()).throw(KilledError))
    with pytest.raises(KilledError):
        embedded(tmp_path, Images())
    monkeypatch.undo()
    shard = tmp_path / SHARDS_FOLDER / "000001.npz"
    damage(shard)
    with pytest.raises(DataError, match=r"000001\.npz was damaged, and is deleted; repeat the command"):
        embedded(tmp_path, Images())
    embed = Embedding()
    embedded(tmp_path, Images(), embed)
    assert embed.sizes == [3]


def in_processes(folder: str, num_threads: int) -> tuple[list[int], list[int]]:
    """In this process: the sizes of the batches it has embedded, and the unreadable images."""
    embed = Embedding()
    found = embedded(Path(folder), Images(), embed, num_threads=num_threads)
    return embed.sizes, list(found.unreadable)


@pytest.mark.parametrize("world_size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_processes_share_the_batches_and_write_the_files_of_one(world_size, tmp_path):
    embedded(tmp_path / "alone", Images())
    results = run_processes(world_size, in_processes, str(tmp_path / "shared"), 2)
    for name in (EMBEDDINGS_FILE, CORNERS_FILE, ABOUT_FILE):
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert [sizes for sizes, _ in results] == [[4, 3, 5, 5, 2][rank::world_size] for rank in range(world_size)]
    assert all(unreadable == list(UNREADABLE) for _, unreadable in results)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def of_another_shape(path: Path) -> None:
    np.save(path, np.zeros((NUM_IMAGES, 5), dtype=np.float16)[1:])


def not_that(path: Path) -> None:
    path.write_bytes(b"{}")


@pytest.mark.parametrize("name", [EMBEDDINGS_FILE, CORNERS_FILE])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (Path.unlink, "is missing"),
        (cut_off, "is incomplete or damaged"),
        (not_that, "is incomplete or damaged"),
        (of_another_shape, r"holds float16 \(22, 5\)"),
    ],
)
def test_files_that_are_not_what_they_were_are_made_anew_with_a_word(name, damage, says, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(LOGGER, "propagate", True)
    source = Images()
    first = embedded(tmp_path, source)
    expected = np.array(first.emb_ND), np.array(first.beside["corners"])
    damage(tmp_path / name)
    again = embedded(tmp_path, source)
    assert source.num_read == 2 * NUM_IMAGES
    assert np.array_equal(again.emb_ND, expected[0]) and np.array_equal(again.beside["corners"], expected[1])
    (message,) = {record.message for record in caplog.records if record.name == LOGGER.name}
    assert re.search(rf"{name} {says}.*: the set is embedded again$", message)


@pytest.mark.parametrize(("num_bytes", "name"), [(5000, "000000.npz"), (15000, EMBEDDINGS_FILE)])
def test_disk_that_is_full_is_an_error_and_what_is_done_stays(num_bytes, name, tmp_path):
    class Wide(Embedding):
        def __call__(self, images: np.ndarray) -> np.ndarray:
            super().__call__(images)
            return np.ones((len(images), 512), dtype=np.float32)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        with pytest.raises(DataError, match=rf"{name}: cannot be written \(File too large\)"):
            embedded(tmp_path / "c", Images(), Wide())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "c" / name).exists()
    embed = Wide()
    made = embedded(tmp_path / "c", Images(), embed)
    assert made.emb_ND.shape == (NUM_IMAGES, 512) and len(embed.sizes) == (0 if name == EMBEDDINGS_FILE else 5)


def test_a_list_of_the_unreadable_that_is_none_is_made_anew(tmp_path):
    embedded(tmp_path, Images())
    about = json.loads((tmp_path / ABOUT_FILE).read_text())
    for change in ({"unreadable": [3]}, {"unreadable": {"three": ""}}, {"num_images": None}):
        (tmp_path / ABOUT_FILE).write_text(json.dumps({**about, **change}))
        assert embedded(tmp_path, Images()).unreadable.keys() == set(UNREADABLE)


def test_a_model_that_has_diverged_is_refused(tmp_path):
    with pytest.raises(ModelError, match="not finite; the model has diverged"):
        embedded(tmp_path, Images(), lambda images: np.full((len(images), DIM), np.nan, dtype=np.float32))


def test_an_embedding_that_float16_cannot_hold_is_refused(tmp_path):
    def large(images: np.ndarray) -> np.ndarray:
        return np.full((len(images), DIM), 1e5, dtype=np.float32)

    with pytest.raises(ModelError, match="too large for float16; give it length 1, or store float32"):
        embedded(tmp_path, Images(), large, unit_length=False)


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    class Starting(Embedding):
        def __call__(self, images: np.ndarray) -> np.ndarray:
            with pytest.raises(ConfigError, match="another process embeds there now"):
                embedded(tmp_path, Images())
            return super().__call__(images)

    embed = Starting()
    embedded(tmp_path, Images(), embed)
    assert len(embed.sizes) == 5


def test_a_set_of_which_nothing_can_be_read_is_refused(tmp_path):
    with pytest.raises(DataError, match="no image of the set can be read: image 0 is incomplete"):
        embedded(tmp_path, Images(tuple(range(NUM_IMAGES))))
