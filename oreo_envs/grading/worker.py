"""A handle on the symbolic core that any thread and any forked process can use.

Knows: starting the core (``core.py``), asking it within a time limit, starting it again.
Does not know: what is asked.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

logger = logging.getLogger(__name__)

LIMIT_S = 1.0
"""What one comparison may take before its process is killed, seconds."""
DEADLINE_S = 1.4
"""What one comparison may take in all, a start of the core included, seconds."""
START_S = 30.0
"""What the first start may take, seconds: a slow machine is no reason for a wrong verdict."""
_GRACE_S = 0.05

_CORE = Path(__file__).with_name("core.py")


class WorkerLost(Exception):
    """The core died twice during one comparison, so there is no verdict."""


class Worker:
    """The core, started at the first question; it ends with this process."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._forget()
        if hasattr(os, "register_at_fork"):
            # The parent's core answers the parent: a fork starts its own.
            os.register_at_fork(after_in_child=self._abandon)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._pid = self._to = self._from = -1
        self._is_up = self._was_up = False

    def _abandon(self) -> None:
        for descriptor in (self._to, self._from):
            if descriptor >= 0:
                os.close(descriptor)
        self._forget()

    def prepare(self) -> None:
        """Start the core and do not wait for it: formulas are coming."""
        if self._pid < 0 and not self._was_up:
            with self._lock:
                self._spawn()

    def ask(self, how: str, left: str, right: str, *, below: str = "", limit_s: float = LIMIT_S) -> str:
        """Put one question to the core (see ``core.answer_request``).

        Returns:
            "same", "different", "unparsable", "too_large", or "timeout" when the core was killed
            after ``limit_s`` seconds.

        Raises:
            WorkerLost: it was killed from outside, and its successor too.
            RuntimeError: it cannot be started.
        """
        request = {"how": how, "left": left, "right": right, "below": below}
        with self._lock:
            if not self._was_up:
                self._greet(START_S)
                if not self._is_up:
                    raise RuntimeError(f"{sys.executable} did not start {_CORE.name} within {START_S:.0f} seconds")
                self._was_up = True
            deadline = time.monotonic() + DEADLINE_S
            for _ in range(2):
                self._greet(deadline - time.monotonic())
                rest = deadline - time.monotonic()
                if not self._is_up or rest <= 0:
                    break
                answer = self._exchange(request | {"limit_s": min(limit_s, rest)}, rest + _GRACE_S)
                if answer is not None and answer["answer"] != "lost":
                    return answer["answer"]
                self._kill()
        logger.warning("a comparison of formulas was lost: the process that makes it was killed from outside")
        raise WorkerLost

    def _spawn(self) -> None:
        """Start the core, unless it runs.

        Raises:
            RuntimeError: it cannot run here.
        """
        if self._pid >= 0:
            return
        if not hasattr(os, "posix_spawn") or not sys.executable:
            raise RuntimeError("formulas are compared in a process of their own; that needs Linux or macOS")
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        self._pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-W", "ignore", str(_CORE)],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs_in, 0),
                (os.POSIX_SPAWN_DUP2, theirs_out, 1),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
            setpgroup=0,  # Ctrl-C is for this process, and killing the group leaves no orphan
        )
        os.close(theirs_in)
        os.close(theirs_out)

    def _greet(self, patience_s: float) -> None:
        """Start the core if need be and wait until it is up; where that takes longer there is none."""
        if self._is_up:
            return
        self._spawn()
        hello = self._exchange([entry or os.getcwd() for entry in sys.path], patience_s)
        self._is_up = hello is not None and "error" not in hello
        if not self._is_up:
            self._kill()
        if hello is not None and "error" in hello:
            raise RuntimeError(f"formulas cannot be compared: {hello['error']}; install math-verify[antlr4_9_3]")

    def _exchange(self, message: object, patience_s: float) -> dict[str, str] | None:
        """Send a message, return the answer; None when none comes."""
        try:
            os.write(self._to, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            return None
        poll = select.poll()  # select.select fails where a process has many files open
        poll.register(self._from, select.POLLIN)
        until, received = time.monotonic() + patience_s, b""
        while not received.endswith(b"\n"):
            if not poll.poll(max(until - time.monotonic(), 0) * 1000):
                return None
            chunk = os.read(self._from, 4096)
            if not chunk:
                return None
            received += chunk
        return dict(json.loads(received))

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        os.close(self._to)
        os.close(self._from)
        self._pid = self._to = self._from = -1
        self._is_up = False


WORKER = Worker()
