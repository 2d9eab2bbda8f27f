"""Who waits, who is refused, and that no place is ever lost."""

import asyncio
from contextlib import suppress

import pytest

from annotate_server.api.flow import Flow, Flowing
from annotate_server.api.services import Limits
from annotate_server.domain.errors import TooBusy


async def request(flow: Flow, hold: asyncio.Event, order: list[int], number: int) -> None:
    with flow.entered():
        async with flow.by("ann"):
            order.append(number)
            await hold.wait()


def test_many_requests_at_once_are_answered_in_turn_and_count_only_while_they_are() -> None:
    async def scene() -> None:
        flow, hold, order = Flow(Limits(person_requests=3, all_requests=5)), asyncio.Event(), list[int]()
        many = [asyncio.create_task(request(flow, hold, order, number)) for number in range(60)]
        await asyncio.sleep(0.01)
        assert order == [0, 1, 2]
        assert flow.requests == 3
        async with flow.by("bob"):
            assert flow.of_person["request bob"] == 1
        hold.set()
        await asyncio.gather(*many)
        assert order == list(range(60))
        assert (flow.requests, dict(flow.of_person), flow._lines) == (0, {}, {})

    asyncio.run(scene())


def test_who_waits_too_long_or_behind_too_many_is_told_so() -> None:
    async def scene() -> None:
        limits = Limits(person_requests=1, person_waiting=2, person_wait_s=0.05)
        flow, hold, order = Flow(limits), asyncio.Event(), list[int]()
        first = asyncio.create_task(request(flow, hold, order, 0))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(request(flow, hold, order, number)) for number in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(TooBusy):
            await request(flow, hold, order, 3)
        for task in waiting:
            with pytest.raises(TooBusy):
                await task
        hold.set()
        await first
        assert order == [0]
        assert (flow.requests, dict(flow.of_person), flow._lines) == (0, {}, {})

    asyncio.run(scene())


def test_who_goes_away_while_waiting_leaves_the_place_to_the_next() -> None:
    async def scene() -> None:
        flow, hold, order = Flow(Limits(person_requests=1)), asyncio.Event(), list[int]()
        tasks = [asyncio.create_task(request(flow, hold, order, number)) for number in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        hold.set()
        tasks[2].cancel()  # as its turn comes
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        assert order in ([0, 3], [0, 2, 3])
        assert (flow.requests, dict(flow.of_person), flow._lines) == (0, {}, {})

    asyncio.run(scene())


def test_who_waits_for_as_many_models_as_they_may_is_answered_other_questions_at_once() -> None:
    async def scene() -> None:
        flow = Flow(Limits(person_requests=1, person_wait_s=0.05))
        async with flow.by("ann", Flowing.PREDICTION):
            async with flow.by("ann"):
                assert flow.of_person == {"prediction ann": 1, "request ann": 1}
            with pytest.raises(TooBusy):
                async with flow.by("ann", Flowing.PREDICTION):
                    pass
        assert not flow.of_person

    asyncio.run(scene())


def test_a_stream_too_many_is_refused_at_once() -> None:
    async def scene() -> None:
        flow = Flow(Limits(person_streams=1))
        async with flow.by("ann", Flowing.STREAM):
            with pytest.raises(TooBusy):
                async with flow.by("ann", Flowing.STREAM):
                    pass

    asyncio.run(scene())
