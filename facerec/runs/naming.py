"""Names run directories readably, from the settings that change the result."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

RUNS = Path("runs")
MAX_NAME_LENGTH = 100
_HASH_LENGTH = 8


def folder_name(text: str) -> str:
    """Returns a folder's name for a text: letters, digits, `.`, `_` and `-`, so that no command needs quotes for it."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    return name if re.search("[A-Za-z0-9]", name) else _digest(text)


def setting_name(setting: Mapping[str, str], *, short: bool = False) -> str:
    """Returns `head.m2-0.3__optimizer.lr-0.1__seed-2` for a setting; "default" if it is empty.

    The seed comes last and is never cut. The other pairs are sorted. If they do not fit into `MAX_NAME_LENGTH`, the
    keys lose their sections (`m2-0.3`); pairs that do not fit then are left out. A hash of all pairs but the seed
    follows if characters were replaced or pairs left out.

    Args:
        setting: the values by their keys; a key with "" is written without a value.
        short: write the keys without their sections in any case.
    """
    seed = [f"seed-{folder_name(setting['seed'])}"] if "seed" in setting else []
    pairs = [f"{key}-{value}" if value else key for key, value in sorted(setting.items()) if key != "seed"]
    words = [folder_name(pair) for pair in pairs]
    is_exact = words == pairs and not any("__" in word for word in words)
    room = MAX_NAME_LENGTH - len("__".join(["", *seed])) - (0 if is_exact else _HASH_LENGTH + 1)
    if short or len("__".join(words)) > room:
        words = [re.sub(r"^[a-z]\w*\.(?=[a-z_]\w*-)", "", word) for word in words]  # keys of three parts stay whole
    if is_exact and len("__".join(words)) <= room:
        return "__".join([*words, *seed]) or "default"
    room = MAX_NAME_LENGTH - len("__".join(["", *seed])) - _HASH_LENGTH - 1
    kept = words[:1]
    while len(kept) < len(words) and len("__".join([*kept, words[len(kept)]])) <= room:
        kept.append(words[len(kept)])
    return "__".join([f"{'__'.join(kept)[:room]}-{_digest(chr(10).join(pairs))}", *seed])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]
