"""A server of vLLM that we start, and end; and new weights for one that runs.

Knows: flags, ports, processes, the addresses of its development mode. Does not know: whether its answers are right.
"""

import atexit
import logging
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2

from oreo_agents.engines.line import Line, ServerError

_log = logging.getLogger(__name__)

NAME = "policy"
"""Under which a server of ours has its model."""

_LAST_LINES = 12
_END_S = 20.0
_REVIVALS = 3
# Development mode loads weights; the others matter on a CPU alone, and what the user sets wins.
_ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


def serve_command(command: str, folder: str, *, port: int, context: int, dtype: str, trust: bool) -> list[str]:
    """Return the command line that serves a policy as the checks need it; flags that it has already stay.

    Args:
        command: such as "vllm serve", with flags perhaps.
        folder: of the policy, or its name on the hub.
        port: to listen on, on this machine alone.
        context: of the policy, tokens.
        dtype: of the weights.
        trust: run code that comes with the checkpoint.
    """
    words = shlex.split(command)
    flags = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--served-model-name": NAME,
        "--dtype": dtype,
        "--max-model-len": str(context),
        "--logprobs-mode": "processed_logprobs",
        "--generation-config": "vllm",
    }
    given = {word.partition("=")[0] for word in words}
    if taken := sorted(given & {"--host", "--port", "--served-model-name"}):
        raise ValueError(f"sampler.command: leave out {taken[0]}, which the run chooses by itself")
    added = [text for name, value in flags.items() if name not in given for text in (name, value)]
    at = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    trusted = ["--trust-remote-code"] if trust and "--trust-remote-code" not in given else []
    return [*words[:at], folder, *words[at:], *added, *trusted]


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """A server in a process of its own, which ends with this one."""

    def __init__(self, command_for: Callable[[str], Sequence[str]], log: Path, port: int) -> None:
        """Start nothing yet.

        Args:
            command_for: returns the command that serves a checkpoint, see ``serve_command``.
            log: file for what it says.
            port: that it listens on.
        """
        self.command_for, self.log, self.url = command_for, log, f"http://127.0.0.1:{port}"
        self.folder = ""
        """What it serves, as far as it was told."""
        self._process: subprocess.Popen[bytes] | None = None
        self._revived = 0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Number of the process; None: it was never started."""
        return None if self._process is None else self._process.pid

    def start(self, folder: str) -> None:
        """Serve a checkpoint, in place of another perhaps; ``wait`` tells when it is ready.

        Raises:
            ServerError: there is no such command.
        """
        self.close()
        self.folder = folder
        command = list(self.command_for(folder))
        self.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.log.open("ab") as out:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env={**_ENVIRONMENT, **os.environ},
                    start_new_session=True,  # Ctrl-C is for this process, which ends it when it needs it no longer
                    preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                )
        except OSError as error:
            raise ServerError(
                f"sampler.command: {command[0]!r} cannot be run ({error.strerror}): install vLLM beside this suite, in "
                "an environment of its own, and give the path of its command, such as "
                "sampler.command='/path/to/bin/vllm serve'"
            ) from error
        atexit.register(self.close)

    def revive(self) -> None:
        """Start it again if it has died, a few times."""
        if self._process is not None and not self.alive and self._revived < _REVIVALS:
            self._revived += 1
            _log.warning("the server of sampler.command ended (%s); it is started again", self._process.returncode)
            self.start(self.folder)

    def wait(self, seconds: float) -> None:
        """Wait until it is ready.

        Raises:
            ServerError: it ended, or took longer.
        """
        given_up = time.monotonic() + seconds
        with httpx2.Client(base_url=self.url, trust_env=False, timeout=5) as http:
            while True:
                if self._process is None or self._process.poll() is not None:
                    ended = None if self._process is None else self._process.returncode
                    raise ServerError(
                        f"the server of sampler.command ended ({ended}) before it was ready; the "
                        f"end of {self.log}:\n{self._last_words()}"
                    )
                try:
                    if http.get("/health").status_code == 200:
                        return
                except httpx2.TransportError:
                    pass
                if time.monotonic() > given_up:
                    self.close()
                    raise ServerError(
                        f"the server of sampler.command was not ready within {seconds:g} s (sampler.start_s); the end "
                        f"of {self.log}:\n{self._last_words()}"
                    )
                time.sleep(0.2)

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line[:300]}" for line in lines[-_LAST_LINES:])

    def close(self) -> None:
        """End it."""
        atexit.unregister(self.close)
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _end_with_parent() -> None:
    """Have the kernel end this process when the one that started it is gone, however it went."""
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


async def load_weights(line: Line, folder: str) -> None:
    """Have a server load the weights of a folder of the same architecture, and forget what it read with the old ones.

    Raises:
        ServerError: it is not in development mode, or cannot load them.
    """
    try:
        await line.order("/pause")
        try:
            body = {"method": "reload_weights", "kwargs": {"weights_path": str(Path(folder).resolve())}}
            await line.order("/collective_rpc", body)
            await line.order("/reset_prefix_cache")
        finally:
            await line.order("/resume")
    except ServerError as error:
        raise ServerError(
            f"{line.url} does not load the weights of {folder}: {error}. It must be started with "
            "VLLM_SERVER_DEV_MODE=1 and see the folder under this path; or have a server started for each run by "
            "sampler.command"
        ) from error
