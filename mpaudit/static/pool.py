"""Work that may be done in other processes: where that pays, and where it is too dangerous for this one.

A worker is a Python of its own that talks msgpack over its standard streams. It is started with the interpreter's
isolated mode, imports nothing of the user's, does not need the `__main__` of the program that uses us, and may die
or be stopped: then its piece of work is Lost, and the next one is done by a successor.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    import subprocess

Q = TypeVar("Q")
A = TypeVar("A")

MAX_WORKERS = 16
PATIENCE = 20
"""Seconds that may pass for each second of processor time that a piece of work may take: on a machine that is busy with
something else, what is found must not depend on it. Only where nothing is computed at all is this the limit."""
LEAD = 0.25
"""A piece that is that much of all of them is begun before the others are looked at."""
_UNTOLD = (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError)
"""Why a question cannot be put to another process."""
_PREPARE = b"prepare"
_OUT_OF_TIME = -27  # SIGPROF on Linux, macOS and the BSDs
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from mpaudit.static import pool; pool.serve()"


@dataclass(frozen=True, slots=True)
class Lost:
    """A piece of work without a result, and why."""

    reason: str
    internal: bool = False
    """We are at fault: to be reported, and the run fails."""


@dataclass(frozen=True)
class Task(Generic[Q, A]):
    """A function that can be called in a worker: its home, and how its argument and its result travel."""

    module: str
    function: str
    question: Any
    answer: Any
    subject: str
    """What it works with, for the sentence that says it died."""
    worth: int
    """Weights that add up to less are not worth a worker."""
    dangerous: int = 1 << 60
    """A single piece of this weight is never done in this process."""
    shared: int = 1 << 60
    """So much is worth to be handed to a worker that stands idle while this process does the rest."""
    seconds: Callable[[int], float] | None = None
    """Processor time that a piece of some weight may take in a worker."""
    needs: tuple[str, ...] = ()
    """Modules that it imports when it is first called."""

    def run(self, question: Q) -> A | Lost:
        """In this process."""
        from importlib import import_module

        try:
            answer: A = getattr(import_module(self.module), self.function)(question)
            return answer
        except Exception as error:
            if os.environ.get("MPAUDIT_DEBUG"):
                raise
            return Lost(" ".join(f"{type(error).__name__}: {error}".split()), internal=True)


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
        self._workers: list[_Worker] = []
        self._lent: list[_Worker] = []
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

    def _free(self, number: int) -> list[_Worker]:
        """So many workers that have nothing to do."""
        free = [worker for worker in self._workers if worker not in self._lent]
        new = [_Worker() for _ in range(number - len(free))]
        self._workers += new
        return (free + new)[:number]

    def _in_workers(
        self, task: Task[Q, A], questions: Sequence[Q], weights: Sequence[int], order: list[int], results: list[Any]
    ) -> None:
        encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(task.answer).decode
        pending: Iterator[int] = iter(order)
        lock = threading.Lock()

        def work(worker: _Worker) -> None:
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
    worker: _Worker,
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


class _Worker:
    """One child process, started again where it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self, task: Task[Any, Any]) -> None:
        """Has the process started, and what the task needs imported, without waiting for it."""
        if not self._is_there():
            return
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(OSError):  # it has died: the next question says so
            _send(self._process.stdin, _PREPARE)
            _send(self._process.stdin, f"{task.module}:{task.function}".encode())

    def _is_there(self) -> bool:
        if self._process is None:
            try:
                self._process = _start()
            except OSError:
                return False
        return True

    def ask(self, task: Task[Any, Any], questions: Sequence[bytes], limit: float | None) -> list[bytes | Lost]:
        """The answers, up to the first that cost the process its life; none where no process can be started. `limit`
        is for each of them."""
        if not self._is_there():
            return []
        assert self._process is not None
        answers: list[bytes | Lost] = []
        late = threading.Event()
        watch = threading.Timer(limit * PATIENCE * len(questions), self._end, (late,)) if limit else None
        if watch:
            watch.daemon = True
            watch.start()
        try:
            stdin, stdout = self._process.stdin, self._process.stdout
            assert stdin is not None
            assert stdout is not None
            _send(stdin, f"{task.module}:{task.function}".encode())
            _send(stdin, json.dumps((limit or 0, len(questions))).encode())
            for question in questions:
                _send(stdin, question)
            for _ in questions:
                status, answer = _receive(stdout), _receive(stdout)
                lost = status != b"done"
                answers.append(Lost(answer.decode("utf-8", "replace"), internal=True) if lost else answer)
        except (OSError, EOFError, ValueError):
            how = "took too long" if self.stop() == _OUT_OF_TIME or late.is_set() else "died"
            answers.append(Lost(f"{task.subject} {how}"))
        finally:
            if watch:
                watch.cancel()
        return answers

    def _end(self, late: threading.Event) -> None:
        late.set()
        process = self._process
        if process is not None:
            with suppress(OSError):
                process.kill()

    def stop(self) -> int | None:
        """How the process ended, as `Popen.returncode`; None where there was none."""
        process, self._process = self._process, None
        if process is None:
            return None
        with suppress(OSError):
            process.kill()  # has no effect on one that has ended by itself
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        return process.wait()


def _start() -> subprocess.Popen[bytes]:
    import subprocess

    if not sys.executable:
        raise OSError("no interpreter")
    path = [place for place in sys.path if place] + [str(Path(__file__).parents[2])]
    return subprocess.Popen(
        [sys.executable, "-I", "-c", _BOOT, json.dumps(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=1 << 16,
    )


def serve() -> None:
    """The life of a worker: questions from stdin, answers to stdout, until stdin ends."""
    import gc
    import signal
    from importlib import import_module

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source = sys.stdin.buffer
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    gc.disable()
    encode = msgspec.msgpack.Encoder().encode
    decoders: dict[bytes, tuple[Callable[[Any], Any], msgspec.msgpack.Decoder[Any]]] = {}
    with suppress(EOFError, OSError):
        while True:
            name = _receive(source)
            if name == _PREPARE:
                with suppress(Exception):  # the question that comes tells of it
                    for module in _task(_receive(source)).needs:
                        import_module(module)
                continue
            limit, count = json.loads(_receive(source))
            for question in [_receive(source) for _ in range(count)]:
                _allow(limit)
                try:
                    if name not in decoders:
                        asked = _task(name)
                        home = import_module(asked.module)
                        decoders[name] = getattr(home, asked.function), msgspec.msgpack.Decoder(asked.question)
                    function_, decoder = decoders[name]
                    status, answer = b"done", encode(function_(decoder.decode(question)))
                except Exception as error:
                    status, answer = (
                        b"lost",
                        " ".join(f"{type(error).__name__}: {error}".split()).encode("utf-8", "replace"),
                    )
                _allow(0)
                _send(target, status)
                _send(target, answer)
                if len(question) > 100_000:
                    gc.collect()


def _task(name: bytes) -> Task[Any, Any]:
    from importlib import import_module

    module, _, function = name.decode().partition(":")
    home = import_module(module)
    return next(t for t in vars(home).values() if isinstance(t, Task) and t.function == function)


def _allow(seconds: float) -> None:
    """Ends this process by SIGPROF once it has used that much more processor time, in C code too; 0: never."""
    import signal

    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _send(stream: Any, data: bytes) -> None:
    stream.write(len(data).to_bytes(8, "little"))
    stream.write(data)
    stream.flush()


def _receive(stream: Any) -> bytes:
    size = int.from_bytes(_exactly(stream, 8), "little")
    return _exactly(stream, size)


def _exactly(stream: Any, size: int) -> bytes:
    data: bytes = stream.read(size)
    if len(data) != size:
        raise EOFError
    return data


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
