"""Work that may be done in other processes: where that pays, and where it is too dangerous for this one."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic

import msgspec

from .tasks import A, Lost, Q, Task
from .worker import Worker

MAX_WORKERS = 16
LEAD = 0.25
"""A piece that is that much of all of them is begun before the others are looked at."""
_UNTOLD = (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError)
"""Why a question cannot be put to another process."""


@dataclass(frozen=True, slots=True)
class Begun(Generic[A]):
    """A piece of work that a worker has been given."""

    answer: Callable[[], A | Lost]
    """Waits for it."""
    goes_on: Callable[[], bool]


class Pool:
    """Up to `jobs` workers, started when first needed; 0 takes the cores there are. To be used as a context."""

    def __init__(self, jobs: int = 0) -> None:
        self._jobs = min(jobs or _cores(), MAX_WORKERS)
        self._workers: list[Worker] = []
        self._lent: list[Worker] = []
        """Those of the workers that have a piece of work for themselves."""

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()

    def map(self, task: Task[Q, A], questions: Sequence[Q], weights: Sequence[int]) -> list[A | Lost]:
        """The answers in order of the questions, wherever they were worked out."""
        results: list[A | Lost | None] = [None] * len(questions)
        order = sorted(range(len(questions)), key=lambda i: -weights[i])
        share = self._pays(task, weights)
        away = [i for i in order if share or weights[i] >= task.dangerous]
        if away:
            self._in_workers(task, questions, weights, away, results)
        left = deque(i for i in order if results[i] is None)
        idle = [worker for worker in self._workers if worker not in self._lent]
        if idle and not away:
            _with_help(idle[0], task, questions, weights, left, results)
        for index in range(len(questions)):
            if results[index] is None:
                results[index] = task.run(questions[index])
        return results  # type: ignore[return-value]

    def lead(self, task: Task[Any, Any], weights: Sequence[int]) -> int | None:
        """The piece that decides how long it takes, where one is worth a worker of its own while all else is done: the
        worker is started, and makes itself ready."""
        if not self._pays(task, weights):
            return None
        heaviest = max(range(len(weights)), key=lambda i: (weights[i], -i))
        if weights[heaviest] < sum(weights) * LEAD:
            return None
        self._free(1)[0].prepare(task)
        return heaviest

    def begin(self, task: Task[Q, A], question: Q, weight: int) -> Begun[A]:
        """Has a piece of work done in a worker of its own."""
        try:
            encoded = msgspec.msgpack.encode(question)
        except _UNTOLD:
            return Begun(lambda: task.run(question), lambda: False)
        worker = self._free(1)[0]
        self._lent.append(worker)
        replies: list[bytes | Lost] = []
        limit = task.seconds(weight) if task.seconds else None
        thread = threading.Thread(target=lambda: replies.extend(worker.ask(task, [encoded], limit)), daemon=True)
        thread.start()

        def wait() -> A | Lost:
            thread.join()
            self._lent.remove(worker)
            if not replies:
                return task.run(question)  # no process can be started here
            reply = replies[0]
            return reply if isinstance(reply, Lost) else msgspec.msgpack.decode(reply, type=task.answer)

        return Begun(wait, thread.is_alive)

    def _pays(self, task: Task[Any, Any], weights: Sequence[int]) -> bool:
        """Whether workers do it sooner, their start included."""
        return self._jobs - len(self._lent) > 1 and len(weights) > 1 and sum(weights) >= task.worth

    def _free(self, number: int) -> list[Worker]:
        """So many workers that have nothing to do."""
        free = [worker for worker in self._workers if worker not in self._lent]
        new = [Worker() for _ in range(number - len(free))]
        self._workers += new
        return (free + new)[:number]

    def _in_workers(
        self, task: Task[Q, A], questions: Sequence[Q], weights: Sequence[int], order: list[int], results: list[Any]
    ) -> None:
        encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(task.answer).decode
        pending: Iterator[int] = iter(order)
        lock = threading.Lock()

        def work(worker: Worker) -> None:
            while True:
                with lock:
                    index = next(pending, None)
                if index is None:
                    return
                try:
                    question = encode(questions[index])
                except _UNTOLD:
                    continue  # left for this process
                limit = task.seconds(weights[index]) if task.seconds else None
                for reply in worker.ask(task, [question], limit):
                    results[index] = reply if isinstance(reply, Lost) else decode(reply)

        workers = self._free(min(max(self._jobs - len(self._lent), 1), len(order)))
        threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _with_help(
    worker: Worker,
    task: Task[Q, A],
    questions: Sequence[Q],
    weights: Sequence[int],
    left: deque[int],
    results: list[A | Lost | None],
) -> None:
    """This process takes one piece after another, the heaviest first; the worker takes the lightest, a part of what is
    left at a time, as long as there is enough for both. What it does not bring stays without a result."""
    encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(task.answer).decode

    def part() -> list[int]:
        enough = sum(weights[i] for i in tuple(left)) // 4
        taken: list[int] = []
        with suppress(IndexError):
            while enough >= task.shared and sum(weights[i] for i in taken) < enough:
                taken.append(left.pop())
        return taken

    def help_() -> None:
        while taken := part():
            try:
                asked = [encode(questions[i]) for i in taken]
            except _UNTOLD:
                return  # all of them are left for this process
            limit = task.seconds(max(weights[i] for i in taken)) if task.seconds else None
            replies = worker.ask(task, asked, limit)
            for i, reply in zip(taken, replies, strict=False):
                results[i] = reply if isinstance(reply, Lost) else decode(reply)
            if len(replies) < len(taken):
                return  # it died, or was never there

    thread = threading.Thread(target=help_, daemon=True)
    with _switching_often():
        thread.start()
        with suppress(IndexError):
            while True:
                index = left.popleft()
                results[index] = task.run(questions[index])
        thread.join()


@contextmanager
def _switching_often() -> Iterator[None]:
    """A thread that feeds a worker is not kept waiting while this process computes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 10)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
