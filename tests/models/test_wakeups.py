"""Wake-ups: they reach the loops that wait, from any thread, and harm nobody."""

import asyncio
import gc
import threading

from ringback.models.wakeups import Topic, WakeUps


async def test_a_wake_up_and_none() -> None:
    wakeups = WakeUps()
    listener = wakeups.listen(Topic.DUE)
    assert not await listener.wait(0.001)
    assert not await listener.wait(-1)
    wakeups.notify(Topic.LOGGED)
    assert not await listener.wait(0.005)
    wakeups.notify(Topic.DUE)
    assert await listener.wait(5)


async def test_wake_ups_while_it_works_are_kept_as_one() -> None:
    wakeups = WakeUps()
    listener, other = wakeups.listen(Topic.DUE), wakeups.listen(Topic.DUE)
    for _ in range(3):
        wakeups.notify(Topic.DUE)
    await asyncio.sleep(0)
    assert await listener.wait(5)
    assert not await listener.wait(0.001)
    assert await other.wait(5)


async def test_from_another_thread() -> None:
    wakeups = WakeUps()
    listener = wakeups.listen(Topic.RECEIVED)
    thread = threading.Thread(target=wakeups.notify, args=(Topic.RECEIVED,))
    thread.start()
    assert await listener.wait(5)
    thread.join()


def test_a_loop_that_is_closed() -> None:
    wakeups = WakeUps()

    async def listen() -> object:
        return wakeups.listen(Topic.DUE)

    kept = asyncio.run(listen())
    wakeups.notify(Topic.DUE)
    assert len(wakeups._listeners[Topic.DUE]) == 1
    del kept
    gc.collect()
    assert len(wakeups._listeners[Topic.DUE]) == 0
