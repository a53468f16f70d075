"""Processes that prepare portions of corpora beside this one.

A worker is `python -m langadapt.corpus.workers`: it gets portions through its standard input and gives shards through its
standard output, one at a time, and ends when its input does, so that it never outlives this process. It is no fork (this
process may have threads and a GPU) and does not run the caller's script again (which may have no main guard). All readers
of this process that ask for the same number of workers share them.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, islice
from typing import IO, Protocol

from langadapt.corpus.portions import Portion
from langadapt.errors import RunError, UserError
from langadapt.machine import release_memory
from langadapt.plugins import Registry, registry

VARIABLE = "LANGADAPT_WORKERS"
_SPARE = 2  # portions that wait for a free worker


class Job(Protocol):
    """What is done to a corpus, in names and values alone, so that any process can do it; a `Preparation` is one."""

    def unknown(self, known: Registry) -> list[str]:
        """Steps that no plugin of this process offers."""

    def of_portions(self, known: Registry) -> Callable[[Portion], bytes]:
        """A pure function from a portion of the corpus to what it becomes, a shard."""


def in_order(job: Job, portions: Iterator[Portion], workers: int = 0) -> Generator[bytes, None, None]:
    """The shards of portions, in the order of the portions; only a few are made ahead of what is taken.

    The first portion is prepared here: many a corpus or reader ends with it. Then the number of portions that are made
    ahead doubles with each one taken, up to a few more than there are workers.

    Args:
        job: what is to be done.
        portions: what to do it to; drawn as they are needed.
        workers: processes; 0 for one on each core of the machine or what `LANGADAPT_WORKERS` says.

    Raises:
        UserError: a portion cannot be read.
        RunError: a worker died.
    """
    number = workers or count_workers()
    make = _here(job)
    for portion in islice(portions, None if number == 1 else 1):
        yield make(portion)
    for second in portions:
        with _pool(number) as pool:
            yield from _ahead(pool, job, chain([second], portions), number + _SPARE)


def _ahead(pool: _Pool, job: Job, portions: Iterator[Portion], most: int) -> Iterator[bytes]:
    """Shards from the workers, of which two and then more, up to `most`, are under way."""
    waiting: deque[Future[bytes]] = deque()
    ahead = 2
    while True:
        for portion in islice(portions, ahead - len(waiting)):
            waiting.append(pool.submit(job, portion))
        if not waiting:
            return
        yield waiting.popleft().result()
        release_memory()
        ahead = min(2 * ahead, most)


def count_workers() -> int:
    """How many processes share the preparation of a corpus.

    Raises:
        UserError: `LANGADAPT_WORKERS` is no such number.
    """
    from langadapt.machine import this_machine

    chosen = os.environ.get(VARIABLE, "")
    if not chosen:
        return this_machine().cores
    if not chosen.isdecimal() or not int(chosen):
        raise UserError(f'{VARIABLE} is "{chosen}"; it is the number of processes that prepare corpora, such as 4')
    return int(chosen)


def _here(job: Job) -> Callable[[Portion], bytes]:
    """The job in this process, made ready when it is first asked for."""
    work = None

    def make(portion: Portion) -> bytes:
        nonlocal work
        work = work or job.of_portions(registry())
        return work(portion)

    return make


# --- this process's end ----------------------------------------------------------------------------------------------


class _Pool:
    """Threads that each have a worker and wait for it."""

    def __init__(self, number: int):
        self.users = 0
        self._threads = ThreadPoolExecutor(number, thread_name_prefix="langadapt-worker")
        self._own = threading.local()
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._closed = False

    def submit(self, job: Job, portion: Portion) -> Future[bytes]:
        """Has a portion prepared by the next free worker."""
        return self._threads.submit(self._prepared, job, portion)

    def close(self) -> None:
        """Ends all workers, whatever they are at; what they make has no use any more."""
        with self._lock:
            self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.end()
        self._threads.shutdown()

    def _prepared(self, job: Job, portion: Portion) -> bytes:
        shard = self._worker().prepare(job, portion)
        if shard is None:  # a step that is known to this process alone
            with self._lock:
                return _here(job)(portion)
        return shard

    def _worker(self) -> _Worker:
        worker: _Worker | None = getattr(self._own, "worker", None)
        if worker is None:
            with self._lock:
                if self._closed:
                    raise RunError("the workers are closed; the run is being stopped")
                worker = self._own.worker = _Worker()
                self._workers.append(worker)
        return worker


class _Worker:
    """A process and the pipes to it."""

    def __init__(self) -> None:
        # The same modules as here, wherever they come from; one thread each, because there are as many as cores. In a
        # session of its own it does not get the terminal's Ctrl-C, which is this process's to handle.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "langadapt.corpus.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )

    def prepare(self, job: Job, portion: Portion) -> bytes | None:
        """The shard of a portion; None when the worker's plugins lack one of the steps.

        Raises:
            RunError: it died.
            Exception: whatever the job raised there.
        """
        assert self._process.stdin and self._process.stdout
        try:
            pickle.dump((pickle.dumps(job), portion), self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
            answer = pickle.load(self._process.stdout)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            raise RunError(
                f"corpus: the process that prepared {portion.place} and what follows {self._how_it_ended()}; the "
                f"same command goes on from there. If it was short of memory, fewer processes need less: {VARIABLE}=1"
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        shard: bytes | None = answer
        return shard

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        if code >= 0:
            return f"ended with exit code {code}"
        return f"was ended by {signal.Signals(-code).name}"


_pools: dict[int, _Pool] = {}
_pools_lock = threading.Lock()


@contextmanager
def _pool(number: int) -> Iterator[_Pool]:
    """The workers that the readers of this process share; they end with the last reader."""
    with _pools_lock:
        pool = _pools[number] = _pools.get(number) or _Pool(number)
        pool.users += 1
    try:
        yield pool
    finally:
        with _pools_lock:
            pool.users -= 1
            unused = not pool.users
            if unused:
                del _pools[number]
        if unused:
            pool.close()


# --- the worker's end ------------------------------------------------------------------------------------------------


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Prepares what it is sent until there is no more."""
    while True:
        try:
            given = pickle.load(requests)
        except EOFError:
            return
        pickle.dump(_answer(*given), answers, pickle.HIGHEST_PROTOCOL)
        del given
        answers.flush()
        release_memory()  # texts of all lengths leave holes, and a worker would grow with every long one that it met


def _answer(job: bytes, portion: Portion) -> bytes | Exception | None:
    try:
        work = _ready(job)
        return None if work is None else work(portion)
    except Exception as error:
        return _portable(error)


@lru_cache(maxsize=64)
def _ready(job: bytes) -> Callable[[Portion], bytes] | None:
    wanted: Job = pickle.loads(job)
    return None if wanted.unknown(registry()) else wanted.of_portions(registry())


def _portable(error: Exception) -> Exception:
    """An error that can be raised in another process, with the place here where it happened."""
    told = "".join(traceback.format_exception(error))
    error.__cause__ = error.__context__ = None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # it holds what cannot be sent
        error = RunError(f"{type(error).__name__}: {error}")
    error.add_note(told)
    return error


def main() -> None:
    """Keeps the pipes for itself: what a plugin prints goes to standard error, and nothing can be read."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    try:
        serve(requests, answers)
    except BrokenPipeError:  # nobody waits for the answer any more
        os._exit(1)


if __name__ == "__main__":
    main()
