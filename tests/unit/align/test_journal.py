"""What a killed process has noted is there for the next one."""

import resource

import pytest

from facerec.align.journal import Entry, Journal
from facerec.core.errors import DataError

ENTRIES = [
    Entry(crop="Ann/1.jpg", photo="Ann/1.png", photo_bytes=9, photo_mtime_ns=5, crop_bytes=7, landmarks=[0.1] * 10),
    Entry(crop="Ann/2.jpg", photo="Ann/\udcff\n.png", reason="no_face", detail="the detector finds no face"),
]


def test_entries_come_back(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    assert len(journal) == 0
    journal.append(ENTRIES)
    for opened in (journal, Journal(tmp_path / "journal.jsonl")):
        assert list(opened) == ["Ann/1.jpg", "Ann/2.jpg"]
        assert list(opened.read(["Ann/2.jpg", "x", "Ann/1.jpg"])) == [ENTRIES[1], None, ENTRIES[0]]


def test_the_last_entry_of_a_crop_counts(tmp_path):
    Journal(tmp_path / "j").append(ENTRIES)
    changed = Entry(crop="Ann/1.jpg", photo="Ann/1.png", reason="missing")
    Journal(tmp_path / "j").append([changed])
    assert list(Journal(tmp_path / "j").read(["Ann/1.jpg", "Ann/2.jpg"])) == [changed, ENTRIES[1]]


def test_half_a_line_is_cut_off_wherever_it_ends(tmp_path):
    path = tmp_path / "j"
    Journal(path).append(ENTRIES)
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for size in range(first, len(content)):
        path.write_bytes(content[:size])
        journal = Journal(path)
        assert list(journal) == ["Ann/1.jpg"] and path.stat().st_size == first
        journal.append(ENTRIES[1:])
        assert path.read_bytes() == content


def test_damaged_line_is_refused(tmp_path):
    for line in ("{", '{"crop": "a"}', "[]", '{"crop": "a", "photo": "b", "other": 1}'):
        (tmp_path / "j").write_text(line + "\n")
        with pytest.raises(DataError, match="damaged at byte 0; delete it"):
            Journal(tmp_path / "j")


def test_disk_that_is_full_is_an_error_and_what_was_written_stays(tmp_path):
    journal = Journal(tmp_path / "j")
    journal.append(ENTRIES)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "j").stat().st_size + 20, limits[1]))
    try:
        with pytest.raises(DataError, match=r"j: cannot be written \(File too large\). Repeat the command"):
            journal.append(
                [Entry(crop="Ann/3.jpg", photo="Ann/3.jpg", reason="missing", detail="the file does not exist")]
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(Journal(tmp_path / "j").read([*(entry.crop for entry in ENTRIES), "Ann/3.jpg"])) == [*ENTRIES, None]
