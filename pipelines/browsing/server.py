"""FiftyOne's App on 127.0.0.1, for as long as somebody looks at it; it leaves no process behind."""

import os
import signal
import socket
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import PIPE, STDOUT, Popen
from tempfile import TemporaryFile
from types import FrameType
from typing import IO
from urllib.parse import quote
from urllib.request import urlopen

from ...manifests.errors import RunError, UsageError
from .database import connect

ADDRESS = "127.0.0.1"
PORT = 5151
"""Where the App is looked for first."""

_TRIES = 50  # ports that are tried in turn
_PATIENCE = 120  # seconds that the server may take to answer
_PAUSE = 0.25  # seconds between two looks


def free_port(asked: int | None = None) -> int:
    """The port that is asked for, or else the first free one from :data:`PORT` on.

    Raises:
        UsageError: the port is taken, or all of them are.
    """
    ports = [asked] if asked is not None else range(PORT, PORT + _TRIES)
    for port in ports:
        if _is_free(port):
            return port
    raise UsageError(f"--port: expected a free port of {ADDRESS}, got {ports[0]}, which is taken; give another")


def _is_free(port: int) -> bool:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((ADDRESS, port))
    except OSError:
        return False
    except OverflowError as error:
        raise UsageError(f"--port: expected 1 to 65535, got {port}") from error
    return True


@contextmanager
def app(port: int) -> Iterator[Callable[[str], str]]:
    """Start the App's server, which then makes ready while a data set is loaded.

    ``fiftyone.launch_app`` is not used: where its server is not up at the first try, its session waits ten seconds for
    the second, and nobody here needs a session.

    Args:
        port: a free one.

    Yields:
        A function from the name of a data set to the address that shows it; it returns once the server answers, and
        raises :class:`RunError` if that never does.

    Raises:
        UsageError: there is no database.
    """
    connect()
    with TemporaryFile() as said:
        command = [sys.executable, "-c", _SERVE, "--port", str(port), "--address", ADDRESS]
        # In a session of its own, so that Ctrl-C in a terminal ends us, and we end it.
        server = Popen(command, stdin=PIPE, stdout=said, stderr=STDOUT, start_new_session=True)

        def address(dataset: str) -> str:
            _wait_for(f"http://{ADDRESS}:{port}/fiftyone", server, said)
            return f"http://{ADDRESS}:{port}/datasets/{quote(dataset, safe='')}"

        try:
            yield address
        finally:
            server.terminate()
            server.communicate()


_SERVE = """
import os, runpy, sys, threading

def follow():
    sys.stdin.buffer.read()  # until the parent ends, in whatever way it does
    os._exit(0)

threading.Thread(target=follow, daemon=True).start()
runpy.run_module("fiftyone.server.main", run_name="__main__")
"""


def _wait_for(url: str, server: "Popen[bytes]", said: IO[bytes]) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and server.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:  # URLError is one
            time.sleep(_PAUSE)
    said.seek(0)
    last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
    raise RunError(f"expected FiftyOne's server to answer at {url}, got {last or 'nothing'}; try another --port")


def wait() -> None:
    """Wait until Ctrl-C or SIGTERM."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        pass  # how the user says that it is done
    finally:
        signal.signal(signal.SIGTERM, before)


def show(url: str) -> None:
    """Open the user's browser, where there is a screen."""
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)
