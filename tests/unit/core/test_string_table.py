"""Strings come back from their table, and take little more than their bytes."""

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerec.core.string_table import StringTable


def filled(texts: list[str]) -> StringTable:
    table = StringTable()
    for text in texts:
        table.append(text)
    return table


@given(st.lists(st.text() | st.binary().map(os.fsdecode)))
def test_strings_come_back(texts):
    table = filled(texts)
    assert len(table) == len(texts) and list(table) == texts
    assert [table[index - len(texts)] for index in range(len(texts))] == texts
    for outside in (len(texts), -len(texts) - 1):
        with pytest.raises(IndexError):
            table[outside]


def test_table_of_many_names_is_small():
    table = filled([f"{number:08d}.jpg" for number in range(100_000)])
    assert sys.getsizeof(table._bytes) + sys.getsizeof(table._ends) < 100_000 * (12 + 8) * 1.2
