"""What bounds the threads, descriptors and memory of a process, for who has run out of them.

Only words: nothing is imported or read, for which nothing may be left.
"""

from __future__ import annotations

_THREADS = "what bounds threads is ulimit -u, TasksMax= of systemd, or a container's limit of pids"
_MEMORY = "what bounds memory is ulimit -v, or the limit of the service or container"
_CURES = (
    ("[Errno 24]", "what bounds descriptors is ulimit -n, or LimitNOFILE= of systemd"),
    ("[Errno 23]", "what bounds the descriptors of all processes is fs.file-max"),
    ("can't start new thread", _THREADS),
    ("[Errno 11]", _THREADS.replace("threads", "processes and threads", 1)),
    ("[Errno 12]", _MEMORY),
    ("MemoryError", _MEMORY),
    ("for want of memory", _MEMORY),
)


def with_cure(error: object) -> str:
    """Return an error's text with what would cure it, in its first line, if that is known here."""
    line, feed, more = str(error).partition("\n")
    if not line and isinstance(error, MemoryError):
        line = "MemoryError"
    cure = next((f"; {cure}" for sign, cure in _CURES if sign in line), "")
    return f"{line}{cure}{feed}{more}"
