"""The budget of bytes held: the oldest incomplete request makes room."""

from ringback.graphql_api.listener.byte_budget import ByteBudget


class Connection:
    """A connection that holds these bytes until it is refused."""

    def __init__(self, held: int, *, is_running: bool = False) -> None:
        self.held = held
        self.is_running = is_running
        self.is_refused = False

    def count_held_bytes(self) -> int:
        return self.held

    def free_held_bytes(self) -> bool:
        if not self.is_running:
            self.is_refused, self.held = True, 0
        return not self.is_running


def test_the_oldest_incomplete_request_makes_room() -> None:
    budget = ByteBudget(100)
    connections = [Connection(40, is_running=True), Connection(40), Connection(30)]
    for connection in connections:
        budget.hold(connection, connection.held)

    assert [connection.is_refused for connection in connections] == [False, True, False]
    assert budget.total == 70


def test_a_client_that_reads_on_makes_room_last() -> None:
    budget = ByteBudget(100)
    reading, stalled, newest = Connection(60), Connection(30), Connection(20)
    budget.hold(reading, 60)
    budget.hold(stalled, 30)
    reading.held = 55

    budget.hold(newest, 20)

    assert [connection.is_refused for connection in (reading, stalled, newest)] == [False, True, False]


def test_a_request_that_no_longer_holds_bytes_is_not_refused() -> None:
    budget = ByteBudget(100)
    finished, other = Connection(90), Connection(50)
    budget.hold(finished, 90)
    finished.held = 0

    budget.hold(other, 50)

    assert (finished.is_refused, other.is_refused, budget.total) == (False, False, 50)


def test_the_newest_request_is_refused_where_all_others_run() -> None:
    budget = ByteBudget(100)
    running, newest = Connection(90, is_running=True), Connection(50)
    budget.hold(running, 90)

    budget.hold(newest, 50)
    assert newest.is_refused
    assert budget.total == 90

    budget.release(running)
    budget.release(running)
    assert budget.total == 0
