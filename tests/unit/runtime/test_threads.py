import threading

import pytest

from pipeline.runtime.threads import in_threads


def test_results_come_in_the_order_of_the_items_from_several_threads() -> None:
    together = threading.Barrier(2, timeout=20)

    def double(number: int) -> int:
        together.wait()
        return 2 * number

    assert in_threads(double, range(10), "doubling") == list(range(0, 20, 2))
    assert in_threads(double, [], "doubling") == []


def test_an_error_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda number: 1 // number, [1, 0], "dividing")
