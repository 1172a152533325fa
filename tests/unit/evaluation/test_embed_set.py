"""A set is embedded into files once, whatever of it cannot be read."""

import json
import re
import resource
from pathlib import Path

import numpy as np
import pytest

from facerec.core.errors import DataError, ModelError
from facerec.core.log import LOGGER
from facerec.core.protocols import Embedder
from facerec.evaluation.embed_set import ABOUT_FILE, EMBEDDINGS_FILE, THUMBNAILS_FILE, EmbeddedSet, embed_set

NUM_IMAGES, DIM = 23, 6
UNREADABLE = (0, 7, 8, 22)


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
            raise DataError(f"image {index} is cut off")
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


def embedded(folder: Path, source: Images, embed: Embedder | None = None, **changes) -> EmbeddedSet:
    arguments = {"model": "weights", "batch_size": 5, "num_threads": 3, **changes}
    return embed_set(source, embed or Embedding(), folder, **arguments)


def test_rows_are_those_of_the_images_and_zeros_where_one_cannot_be_read(tmp_path):
    embed = Embedding()
    found = embedded(tmp_path, Images(), embed)
    assert found.unreadable == {index: f"image {index} is cut off" for index in UNREADABLE}
    assert embed.sizes == [4, 3, 5, 5, 2]
    for index in range(NUM_IMAGES):
        if index in UNREADABLE:
            assert not found.emb_ND[index].any() and not found.thumbnails_NP[index].any()
        else:
            expected = Embedding()(Images().image(index)[None])[0]
            assert np.allclose(found.emb_ND[index], expected / np.linalg.norm(expected), atol=1e-3)
            assert np.linalg.norm(found.thumbnails_NP[index].astype(np.float32)) == pytest.approx(1, abs=1e-3)


def test_a_second_look_reads_nothing_and_another_set_or_model_everything(tmp_path):
    source = Images()
    first = np.array(embedded(tmp_path, source).emb_ND)
    again = embedded(tmp_path, source)
    assert source.num_read == NUM_IMAGES and np.array_equal(again.emb_ND, first)
    assert again.unreadable == {index: f"image {index} is cut off" for index in UNREADABLE}
    embedded(tmp_path, source, model="other weights")
    assert source.num_read == 2 * NUM_IMAGES
    assert embedded(tmp_path, Images((3,)), model="other weights").unreadable.keys() == {3}


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def of_another_shape(path: Path) -> None:
    np.save(path, np.zeros((NUM_IMAGES, 5), dtype=np.float16)[1 if path.name == EMBEDDINGS_FILE else 0 :])


def not_that(path: Path) -> None:
    path.write_bytes(b"{}")


@pytest.mark.parametrize("name", [EMBEDDINGS_FILE, THUMBNAILS_FILE])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (Path.unlink, "is missing"),
        (cut_off, "is cut off or damaged"),
        (not_that, "is cut off or damaged"),
        (of_another_shape, r"holds float16 \(2\d, 5\)"),
    ],
)
def test_files_that_are_not_what_they_were_are_made_anew_with_a_word(name, damage, says, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(LOGGER, "propagate", True)
    source = Images()
    first = embedded(tmp_path, source)
    expected = np.array(first.emb_ND), np.array(first.thumbnails_NP)
    damage(tmp_path / name)
    again = embedded(tmp_path, source)
    assert source.num_read == 2 * NUM_IMAGES
    assert np.array_equal(again.emb_ND, expected[0]) and np.array_equal(again.thumbnails_NP, expected[1])
    (message,) = {record.message for record in caplog.records if record.name == LOGGER.name}
    assert re.search(rf"{name} {says}.*: the set is embedded anew$", message)


@pytest.mark.parametrize(("num_bytes", "name"), [(5000, THUMBNAILS_FILE), (15000, EMBEDDINGS_FILE)])
def test_disk_that_is_full_is_an_error_before_anything_is_computed(num_bytes, name, tmp_path):
    def wide(images: np.ndarray) -> np.ndarray:
        return np.ones((len(images), 512), dtype=np.float32)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        with pytest.raises(DataError, match=rf"{name}: cannot be written \(File too large\)"):
            embedded(tmp_path / "c", Images(), wide)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "c" / name).exists()
    made = embedded(tmp_path / "c", Images(), wide)
    assert made.emb_ND.shape == (NUM_IMAGES, 512)
    for file in (EMBEDDINGS_FILE, THUMBNAILS_FILE):  # no page of it can be refused later
        status = (tmp_path / "c" / file).stat()
        assert 512 * status.st_blocks >= status.st_size


def test_a_list_of_the_unreadable_that_is_none_is_made_anew(tmp_path):
    embedded(tmp_path, Images())
    about = json.loads((tmp_path / ABOUT_FILE).read_text())
    for change in ({"unreadable": [3]}, {"unreadable": {"three": ""}}, {"num_images": None}):
        (tmp_path / ABOUT_FILE).write_text(json.dumps({**about, **change}))
        assert embedded(tmp_path, Images()).unreadable.keys() == set(UNREADABLE)


def test_a_model_that_has_diverged_is_refused(tmp_path):
    with pytest.raises(ModelError, match="not finite; the model has diverged"):
        embedded(tmp_path, Images(), lambda images: np.full((len(images), DIM), np.nan, dtype=np.float32))


def test_a_set_of_which_nothing_can_be_read_is_refused(tmp_path):
    with pytest.raises(DataError, match="no image of the set can be read: image 0 is cut off"):
        embedded(tmp_path, Images(tuple(range(NUM_IMAGES))))
