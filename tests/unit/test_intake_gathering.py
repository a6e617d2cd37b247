"""When a feed waits for more, and what it puts together."""

import pytest

from streams.kafka.gathering import WAIT_MAX_S, Gathering


class Client:
    """Has what lies in its fetches, one after the other."""

    def __init__(self, *fetches):
        self.fetches = list(fetches)
        self.asked = []

    async def ask(self, timeout_ms):
        self.asked.append(timeout_ms)
        return self.fetches.pop(0) if self.fetches else {}


def gathered(records, *, is_much=False):
    gathering = Gathering()
    gathering.note(records, is_much=is_much)
    return gathering


@pytest.mark.parametrize(("records", "wait_s"), [(0, 0.0), (1, 0.001), (3, 0.003), (15, WAIT_MAX_S), (499, WAIT_MAX_S)])
def test_the_wait_grows_with_what_came(records, wait_s):
    assert gathered(records).wait_s == pytest.approx(wait_s)


def test_behind_a_large_batch_nobody_waits():
    assert gathered(500, is_much=True).wait_s == 0.0


async def test_without_a_wait_one_fetch_is_all():
    client = Client({"a": [1]}, {"a": [2]})
    assert await gathered(1).fetch(client.ask, 200, lambda: True) == {"a": [1]}
    assert client.asked == [200]


async def test_after_a_wait_what_gathered_follows_what_came_first_in_the_order_of_the_log():
    client = Client({"a": [1, 2], "b": [7]}, {"c": [9], "a": [3]})
    assert await gathered(40).fetch(client.ask, 200, lambda: True) == {"a": [1, 2, 3], "b": [7], "c": [9]}


async def test_nothing_is_nothing_and_is_asked_for_once():
    client = Client({}, {"a": [1]})
    assert await gathered(40).fetch(client.ask, 200, lambda: True) == {}
    assert client.asked == [200]


async def test_what_two_assignments_fetched_is_not_put_together():
    client = Client({"a": [1, 2]}, {"a": [1, 2, 3]})
    same = iter([True, False])
    assert await gathered(40).fetch(client.ask, 200, lambda: next(same)) == {"a": [1, 2, 3]}
