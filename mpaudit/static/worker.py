"""A Python of its own that works for this one.

It talks msgpack over its standard streams. It is started with the interpreter's isolated mode, imports nothing of the
user's, does not need the `__main__` of the program that uses us, and may die or be stopped: then its piece of work is
Lost, and the next one is done by a successor.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .tasks import Lost, Task

if TYPE_CHECKING:
    import subprocess

PATIENCE = 20
"""Seconds that may pass for each second of processor time that a piece of work may take: on a machine that is busy with
something else, what is found must not depend on it. Only where nothing is computed at all is this the limit."""
_PREPARE = b"prepare"
_OUT_OF_TIME = -27  # SIGPROF on Linux, macOS and the BSDs
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from mpaudit.static import worker; worker.serve()"


class Worker:
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
