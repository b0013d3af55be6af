"""A new process in place of this one, with new code of everything, on the same listeners.

The old one starts it by ``subprocess`` (it must not fork itself: that would kill the child, with
interpreters around), with the listeners' descriptors and a pipe. The new one says on the pipe that
it serves. Until then nothing has changed for the old one, which ends afterwards.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Mapping, MutableMapping, Sequence

from ...errors import UpgradeError
from .limits import with_cure

VARIABLE = "SUBINTERP_ASGI_INHERITED"
"""In the environment of the new process: the pipe's descriptor and what it inherits, as JSON."""
_SERVES = b"serves"


class Predecessor:
    """What this process was started by to take over from.

    Attributes:
        inherited: For ``Supervisor(inherited=)``, or ``None``: it was started by somebody else.
        directory: Where this process was started.

    Raises:
        ValueError: That is no longer there.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self.directory = _directory()
        self.inherited: str | None = None
        self._pipe: int | None = None
        if told := environment.pop(VARIABLE, ""):
            self._pipe, self.inherited = json.loads(told)
            assert self._pipe is not None
            os.set_inheritable(self._pipe, False)

    def tell(self) -> None:
        """Say that this process serves, so that the other one ends."""
        if self._pipe is not None:
            os.write(self._pipe, _SERVES)
            os.close(self._pipe)
            self._pipe = None


class Successor:
    """The new process.

    Args:
        inherited: From ``Supervisor.hand_over_listeners()``.
        descriptors: From there, too.
        environment: Additions to this process' environment.
        directory: Where to start it.

    Raises:
        UpgradeError: It could not be started.
    """

    def __init__(
        self,
        inherited: str,
        descriptors: Sequence[int],
        environment: Mapping[str, str],
        directory: str,
    ) -> None:
        if os.getpid() == 1:
            raise UpgradeError("this is process 1, at whose end its container ends with all in it")
        if not sys.executable:
            raise UpgradeError("it is not known which program Python is")
        try:
            import subprocess  # 2 ms of each start, where most processes never get here

            self._reading, writing = os.pipe()
        except (ImportError, OSError) as exc:
            raise UpgradeError(f"no process can be started: {with_cure(exc)}") from None
        told = {VARIABLE: json.dumps([writing, inherited])}
        try:
            self._process = subprocess.Popen(
                [sys.executable, *sys.orig_argv[1:]],
                env={**os.environ, **environment, **told},
                cwd=directory,
                pass_fds=(*descriptors, writing),
            )
        except (ImportError, OSError) as exc:
            os.close(self._reading)
            raise UpgradeError(f"{sys.executable} could not be started: {with_cure(exc)}") from None
        finally:
            os.close(writing)

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def wait(self, timeout: float) -> None:
        """Wait until it serves.

        Raises:
            UpgradeError: It has ended instead, or does not come to it; it is ended then.
        """
        try:
            # (Its end closes the other end of the pipe, which is readable then, too.)
            ready, _, _ = select.select([self._reading], [], [], timeout)
            if ready and os.read(self._reading, len(_SERVES)) == _SERVES:
                return
        finally:
            os.close(self._reading)
        if not ready:
            self._process.kill()
        status = self._process.wait()
        raise UpgradeError(
            f"the new process ended with status {status}, as it says itself; this one goes on"
            if ready
            else f"the new process did not serve within {timeout:g} s and was killed; "
            "this one goes on"
        )

    def end(self) -> None:
        """Have it end, since this process was told to."""
        self._process.terminate()


def _directory() -> str:
    """The current directory, by the name it has in the shell: a link that may be switched later."""
    try:
        here, named = os.getcwd(), os.environ.get("PWD", "")
    except FileNotFoundError:
        text = "the directory this was started in has been removed; start it in another one"
        raise ValueError(text) from None
    try:
        return named if os.path.samefile(here, named) else here
    except OSError:
        return here
