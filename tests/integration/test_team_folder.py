"""A product team's folder as it is: real photos of several formats, with everything that lies between them."""

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

NUM_PHOTOS = 48


@pytest.fixture
def team(real_data, tmp_path) -> Path:
    """Photos of LFW in the folders of the people; six of them in forms of their own."""
    photos = sorted((real_data / "lfw_photos" / "images").rglob("*.jpg"))[:NUM_PHOTOS]
    for photo in photos:
        (tmp_path / "team" / photo.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, tmp_path / "team" / photo.parent.name)
    changed = [tmp_path / "team" / photo.parent.name / photo.name for photo in photos]
    webp, by_exif, turned, two, named, heic = (changed[number] for number in range(2, 14, 2))
    image = Image.open(webp)
    webp.unlink()
    image.save(webp.with_name("photo.webp"), quality=95)
    exif = Image.Exif()
    exif[0x112] = 6
    Image.open(by_exif).rotate(90, expand=True).save(by_exif.with_name("by_exif.jpg"), exif=exif, quality=95)
    by_exif.unlink()
    Image.open(turned).rotate(-90, expand=True).save(turned.with_name("turned.jpg"), quality=95)
    turned.unlink()
    side_by_side = np.hstack([cv2.imread(str(two)), cv2.imread(str(photos[20]))])
    cv2.imwrite(str(two.with_name("two.jpg")), side_by_side)
    two.unlink()
    named.rename(named.with_name("安德烈.jpg"))
    heic.with_name("IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")  # a photo that was cut off
    heic.unlink()
    (tmp_path / "team" / "Nobody").mkdir()
    (tmp_path / "team" / "notes.txt").write_text("to do")
    (tmp_path / "team" / "__MACOSX").mkdir()
    (tmp_path / "team" / "__MACOSX" / "._photo.jpg").write_bytes(b"\0\5\x16\7")
    return tmp_path / "team"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_folder_of_a_team_is_aligned_and_all_that_is_odd_is_named(team, real_data, command, tmp_path):
    detector = f"detector.weights={real_data}/face_detection_yunet.onnx"
    out = tmp_path / "crops"
    code, printed = command("align", f"photos={team}", detector, f"out={out}")
    assert code == 0 and f"aligned      {NUM_PHOTOS - 1} of {NUM_PHOTOS} faces" in printed, printed
    assert "1 folder without a photo ('Nobody'); listed in" in printed and "MACOSX" not in printed
    assert "landmarks.csv; 1 in rotated photos (turned_deg)\n" in printed
    of_photo = {Path(row["path"]).name: row for row in rows(out / "landmarks.csv")}
    assert {name: of_photo[name]["turned_deg"] for name in ("by_exif.jpg", "turned.jpg", "photo.webp")} == {
        "by_exif.jpg": "0", "turned.jpg": "90", "photo.webp": "0",
    }  # fmt: skip
    assert of_photo["安德烈.jpg"]["crop"].endswith("/安德烈.jpg") and "two.jpg" in of_photo
    reasons = {Path(row["path"]).name: row["reason"] for row in rows(out / "report.csv")}
    assert reasons.pop("IMG_1.HEIC") in ("unreadable", "needs_package")
    assert reasons == {"Nobody": "empty_folder", "notes.txt": "not_image"}
    several = {Path(row["path"]).name: row for row in rows(out / "several_faces.csv")}
    assert int(several["two.jpg"]["num_faces"]) >= 2 and float(several["two.jpg"]["next_size"]) > 0.3
    assert f"several      photos with several faces ({len(several)}; in " in printed
    assert {name for name, row in of_photo.items() if int(row["num_faces"]) > 1} == set(several)

    code, printed = command("inspect", f"data.root={out}", f"out={tmp_path}/report", "sheet.num_identities=5")
    assert code == 0 and "faults       0\n" in printed, printed
    with Image.open(tmp_path / "report" / "contact_sheet.png") as sheet:
        assert sheet.width >= 2 * 112  # people with several photos come first
    code, printed = command("align", f"photos={team}/notes.txt", detector, f"out={tmp_path}/none")
    assert code == 2 and "expected a folder, or a photo whose name ends with" in printed
