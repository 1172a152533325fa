"""`make golden`: pins the golden curve anew. Say in CHANGELOG.md why it changed."""

import json
import tempfile
from pathlib import Path

from tests.golden.curve import PATH, golden_curve, read_pinned


def main() -> None:
    """Writes curve.json, and says by how much each figure moved."""
    before = read_pinned() if PATH.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        curve = golden_curve(Path(folder))
    PATH.write_text(json.dumps(curve, indent=1) + "\n")
    for figure, values in curve.items():
        pairs = zip(values, before.get(figure, []), strict=False)
        moved = max((abs(new - old) / max(abs(old), 1e-30) for new, old in pairs), default=float("nan"))
        print(f"{figure}: largest relative change {moved:.1e}")
    print(f"written: {PATH}; say in CHANGELOG.md why")


if __name__ == "__main__":
    main()
