"""`facerec.align` on photos in memory: the crops of `align_crop`, from every form in which people have photos."""

import cv2
import numpy as np
import pytest
from PIL import Image

import facerec
from facerec.align.crops import align_crop
from facerec.align.faces import Faces
from facerec.align.similarity import template

PHOTOS = np.random.default_rng(1).integers(0, 256, (3, 200, 240, 3), dtype=np.uint8)
LANDMARKS = np.stack([template(112, 112) + shift for shift in ([30, 20], [60, 40], [10, 50])])
CROPS = np.stack([align_crop(photo, points) for photo, points in zip(PHOTOS, LANDMARKS, strict=True)])


class TwoFaces:
    """Finds a small face at LANDMARKS[0] and a large one at LANDMARKS[1], in every photo that is not black."""

    def __call__(self, photos):
        found = []
        for photo in photos:
            num = 2 if photo.any() else 0
            boxes = np.array([[30.0, 20, 60, 60], [60, 40, 100, 110]])[:num]
            found.append(Faces(boxes=boxes, landmarks=LANDMARKS[:num], scores=np.ones(num), searched="once"))
        return found


def test_photos_of_every_form_give_the_same_crops(tmp_path):
    for number, photo in enumerate(PHOTOS):
        cv2.imwrite(str(tmp_path / f"{number}.png"), photo[..., ::-1])
    mixed = [str(tmp_path / "0.png"), tmp_path / "1.png", Image.fromarray(PHOTOS[2])]
    for images in (PHOTOS, list(PHOTOS), mixed):
        assert np.array_equal(facerec.align(images, landmarks=LANDMARKS), CROPS)
    for image in (PHOTOS[1], tmp_path / "1.png", str(tmp_path / "1.png"), Image.fromarray(PHOTOS[1])):
        assert np.array_equal(facerec.align(image, landmarks=LANDMARKS[1].tolist()), CROPS[1])
    assert np.array_equal(facerec.align([PHOTOS[1]], landmarks=LANDMARKS[1:2]), CROPS[1:2])
    assert facerec.align(PHOTOS[0], landmarks=LANDMARKS[0], size_px=(112, 96)).shape == (112, 96, 3)


def test_photo_of_pil_is_turned_by_its_exif_orientation():
    turned = Image.fromarray(np.ascontiguousarray(PHOTOS[0][::-1, ::-1]))
    turned.getexif()[0x0112] = 3  # upside down
    assert np.array_equal(facerec.align(turned, landmarks=LANDMARKS[0]), CROPS[0])


def test_detector_gives_the_landmarks_of_the_chosen_face():
    assert np.array_equal(facerec.align(PHOTOS[1], detector=TwoFaces()), CROPS[1])
    first = align_crop(PHOTOS[1], LANDMARKS[0])
    central = facerec.align(PHOTOS[1], detector=TwoFaces(), choose="central")
    assert np.array_equal(central, CROPS[1]) != np.array_equal(central, first)
    assert facerec.align(PHOTOS, detector=TwoFaces()).shape == (3, 112, 112, 3)


@pytest.mark.parametrize(
    ("images", "options", "error", "says"),
    [
        (PHOTOS[0], {}, facerec.ConfigError, "neither of landmarks and detector given"),
        (PHOTOS[0], {"landmarks": 1, "detector": "a"}, facerec.ConfigError, "both of landmarks and detector given"),
        ([], {"landmarks": []}, facerec.DataError, "no photo; the list is empty"),
        (PHOTOS, {"landmarks": LANDMARKS[:2]}, facerec.DataError, r"shape \(2, 5, 2\); expected \(3, 5, 2\)"),
        (PHOTOS[0] / 255, {"landmarks": LANDMARKS[0]}, facerec.DataError, r"the photo is float64 \(200, 240, 3\); exp"),
        (
            [PHOTOS[0], None],
            {"landmarks": LANDMARKS[:2]},
            facerec.DataError,
            r"images\[1\] is a NoneType; expected a p",
        ),
        ("a.jpg", {"landmarks": LANDMARKS[0]}, facerec.DataError, r"a\.jpg: cannot be read"),
        (PHOTOS[0], {"landmarks": LANDMARKS[0] * 9}, facerec.DataError, "^the photo: "),
        (
            [PHOTOS[0], PHOTOS[1] * 0],
            {"detector": TwoFaces()},
            facerec.DataError,
            r"images\[1\]: .*finds no face; once",
        ),
        (PHOTOS[0], {"detector": "absent.onnx"}, facerec.ModelError, "absent.onnx"),
        (PHOTOS[0], {"detector": TwoFaces(), "choose": "first"}, facerec.ConfigError, "choose=first; expected one of"),
    ],
)
def test_what_cannot_be_aligned_is_one_error_that_names_the_photo(images, options, error, says):
    with pytest.raises(error, match=says):
        facerec.align(images, **options)
