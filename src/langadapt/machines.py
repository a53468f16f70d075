"""Machines that train together: the first runs the stages, the others start processes when it says so.

Each of the others keeps a connection to the first, at MASTER_ADDR and MASTER_PORT. Both ends say something every few
seconds, so that a machine or a network that is gone is noticed soon, whatever the training is waiting for. The run's
folder must be one that all of them see.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from langadapt import artifacts, compute
from langadapt.errors import Interrupted, RunError
from langadapt.processes import PAUSE, Group

if TYPE_CHECKING:
    from langadapt.plan import Plan
    from langadapt.run import Run

BEAT = 2.0  # seconds between signs of life
SILENCE = 30.0  # seconds without one after which a machine is given up
PATIENCE = 600.0  # seconds that machines wait for each other to start: a scheduler starts them at about the same time


class Line:
    """Messages to and from another machine.

    Args:
        connection: to it.
        name: how it is called in messages to the user.
    """

    def __init__(self, connection: socket.socket, name: str):
        self.name = name
        self._connection = connection
        self._connection.settimeout(SILENCE)
        self._received: list[dict[str, Any]] = []
        self._lost = ""
        self._open = True
        self._sending = threading.Lock()
        for work in (self._listen, self._beat):
            threading.Thread(target=work, daemon=True).start()

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends it, or learns that nobody is there; `receive` will say so."""
        try:
            with self._sending:
                self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._lose("the connection to it broke")

    def receive(self) -> dict[str, Any] | None:
        """The next message, None when there is none yet.

        Raises:
            RunError: the machine is gone.
        """
        if self._received:
            return self._received.pop(0)
        self.is_there()
        return None

    def is_there(self) -> bool:
        """
        Raises:
            RunError: the machine is gone.
        """
        if self._lost:
            raise RunError(
                f"{self.name}: {self._lost}; the training was stopped here too. Start the same command on all machines "
                "again, and it goes on from the last checkpoint"
            )
        return True

    def close(self) -> None:
        self._open = False
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why

    def _beat(self) -> None:
        while self._open and not self._lost:
            self.send({})
            time.sleep(BEAT)

    def _listen(self) -> None:
        try:
            with self._connection.makefile("rb") as lines:
                for line in lines:
                    if message := json.loads(line):
                        self._received.append(message)
            self._lose("it has ended")
        except TimeoutError:
            self._lose(f"nothing was heard of it for {SILENCE:g} seconds")
        except (OSError, ValueError):
            self._lose("the connection to it broke")


# --- the first machine -----------------------------------------------------------------------------------------------


class Others:
    """The other machines, as the first one sees them."""

    def __init__(self, lines: list[Line]):
        self._lines = lines
        self._training: set[str] = set()

    def begin(self, job: Mapping[str, Any]) -> None:
        """Has each of them start its processes."""
        self._training = {line.name for line in self._lines}
        for line in self._lines:
            line.send({"train": job})

    def ended(self) -> bool:
        """Whether the processes of all have ended as they should.

        Raises:
            RunError: those of one have not, or it is gone.
        """
        for line in self._lines:
            while message := line.receive():
                if words := message.get("failed"):
                    raise RunError(f"{line.name}: {words}")
                self._training.discard(line.name)
        return not self._training


@contextmanager
def joined(machines: int, stopped: Callable[[], bool]) -> Iterator[Others | None]:
    """The other machines for as long as a run takes; None where there is only this one.

    Raises:
        RunError: not all of them have come.
        Interrupted: the user stopped it meanwhile.
    """
    if machines == 1:
        yield None
        return
    lines: list[Line] = []
    try:
        with socket.create_server(("", compute.port())) as server:
            server.settimeout(PAUSE)
            deadline = time.monotonic() + PATIENCE
            while len(lines) < machines - 1:
                _wait(stopped, deadline, f"{len(lines) + 1} of {machines} machines have started")
                with suppress(TimeoutError):
                    connection, (address, *_) = server.accept()
                    lines.append(Line(connection, f"the machine {address}"))
        yield Others(lines)
    finally:
        for line in lines:
            line.send({"end": True})
            line.close()


def _wait(stopped: Callable[[], bool], deadline: float, what: str) -> None:
    if stopped():
        raise Interrupted(f"stopped while {what}; the same command tries again")
    if time.monotonic() > deadline:
        raise RunError(
            f"{what} after {PATIENCE / 60:g} minutes; start the same command on every one of them, with MASTER_ADDR the "
            f"address of the first, and let port {compute.port()} through"
        )


# --- another machine -------------------------------------------------------------------------------------------------


def follow(plan: Plan, stopped: Callable[[], bool]) -> Run:
    """What a machine that is not the first does: it lends its processes to the first one until that has done.

    Raises:
        RunError: the first machine cannot be reached or is gone, or processes failed here.
        Interrupted: the user stopped it.
    """
    from langadapt.run import Run

    line = _to_first(stopped)
    try:
        while True:
            if (message := line.receive()) is None:
                if stopped():
                    raise Interrupted("stopped; the same command on all machines goes on from the last checkpoint")
                time.sleep(PAUSE)
            elif "train" in message:
                _lend(plan, message["train"], line, stopped)
            else:
                break
    finally:
        line.close()
    state = artifacts.read_json(plan.folder / "run.json")
    return Run(folder=plan.folder, state=state, rows=artifacts.read_json(plan.folder / "report.json") or [])


def _to_first(stopped: Callable[[], bool]) -> Line:
    address, port = compute.first_machine(), compute.port()
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return Line(socket.create_connection((address, port), timeout=5), f"the first machine, {address}")
        except OSError as error:
            _wait(stopped, deadline, f"the first machine, {address}, cannot be reached ({error.strerror or error})")
            time.sleep(10 * PAUSE)


def _lend(plan: Plan, job: Mapping[str, Any], line: Line, stopped: Callable[[], bool]) -> None:
    number = compute.this_number()
    assert number is not None
    shape = compute.processes(plan.recipe.table.compute, plan.machine)
    group = Group(job, shape, number=number, relay=lambda event, fields: None)
    try:
        group.run(stopped=stopped, done=line.is_there)
    except Interrupted:  # the first machine stops as well, and says so
        line.send({"ended": True})
    except Exception as error:
        line.send({"failed": str(error)})
        raise
    else:
        line.send({"ended": True})
