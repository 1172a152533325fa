"""What a process raises among others; over several processes see the tests of what they share."""

import pytest

from facerec.core.errors import DataError
from facerec.processes.agreement import failing_together
from facerec.processes.group import ALONE


def test_a_process_alone_raises_what_it_met():
    error = DataError("an image")
    with pytest.raises(DataError) as caught, failing_together(ALONE):
        raise error
    assert caught.value is error
    with failing_together(ALONE):
        pass


def test_what_is_not_for_a_user_ends_its_process_at_once():
    class OfTwo:
        def raise_together(self, error: object) -> None:
            raise AssertionError("waits for a process that may have ended too")

    with pytest.raises(ZeroDivisionError), failing_together(OfTwo()):
        _ = 1 / 0
