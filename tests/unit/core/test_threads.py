"""Work shared by threads."""

import threading
import time

from facerec.core.threads import in_threads


def test_threads_keep_the_order_work_at_once_and_stay_a_few_items_ahead():
    taken, running, most_running = [], set(), []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    def work(item: int) -> int:
        running.add(threading.get_ident())
        time.sleep(0.001 * (item % 3))
        most_running.append(len(running))
        return item * item

    results = in_threads(work, items(), num_threads=3)
    assert next(results) == 0 and len(taken) <= 14
    assert list(results) == [item * item for item in range(1, 100)]
    assert max(most_running) == 3


def test_threads_go_on_while_nobody_asks_up_to_the_number_ahead():
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = in_threads(lambda item: item, items(), num_threads=2, num_ahead=30)
    assert next(results) == 0 and len(taken) == 31
    assert list(results) == list(range(1, 100))
