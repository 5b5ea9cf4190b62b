from __future__ import annotations

import asyncio

from museserve.runtime.deadline_semaphore import DeadlineSemaphore


async def took_turns(turns: DeadlineSemaphore, asked: list[tuple[float, int]], *, cancelled: int | None = None) -> tuple[list[float], int]:
    """The order in which work of (due_s, size) was done while a first piece filled all room, and the most that was inside at once."""
    done: list[float] = []
    inside, most = 0, 0
    gate = asyncio.Event()

    async def fill() -> None:
        async with turns.held(0.0, 16):
            await gate.wait()

    async def work(due_s: float, size: int) -> None:
        nonlocal inside, most
        async with turns.held(due_s, size):
            inside += size
            most = max(most, inside)
            done.append(due_s)
            await asyncio.sleep(0.001)
            inside -= size

    first = asyncio.create_task(fill())
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(work(*piece)) for piece in asked]
    await asyncio.sleep(0)
    if cancelled is not None:
        tasks[cancelled].cancel()
    gate.set()
    await asyncio.wait_for(asyncio.gather(first, *tasks, return_exceptions=True), 5)
    return done, most


async def test_whoever_runs_dry_first_is_let_in_first_whoever_asked_first() -> None:
    done, most = await took_turns(DeadlineSemaphore(16), [(2.0, 16), (0.1, 16), (1.0, 16)])
    assert done == [0.1, 1.0, 2.0] and most == 16


async def test_small_pieces_share_the_room() -> None:
    done, most = await took_turns(DeadlineSemaphore(16), [(0.3, 8), (0.1, 8), (0.2, 8)])
    assert done == [0.1, 0.2, 0.3] and most == 16


async def test_a_piece_larger_than_the_room_goes_alone() -> None:
    done, most = await took_turns(DeadlineSemaphore(16), [(0.1, 32), (0.2, 8)])
    assert done == [0.1, 0.2] and most == 32


async def test_cancelled_work_gives_its_place_up() -> None:
    turns = DeadlineSemaphore(16)
    done, _ = await took_turns(turns, [(0.1, 16), (0.2, 16)], cancelled=0)
    assert done == [0.2]
    await asyncio.wait_for(turns.held(0.0, 16).__aenter__(), 1)


async def test_work_that_fails_gives_its_place_up() -> None:
    turns = DeadlineSemaphore(16)
    for _ in range(2):
        try:
            async with turns.held(0.0, 16):
                raise ValueError
        except ValueError:
            pass
    await asyncio.wait_for(turns.held(0.0, 16).__aenter__(), 1)
