"""Listening sockets: opened once by the supervisor, kept for its whole life, lent to workers.

Where the system spreads connections over sockets of the same address (``SO_REUSEPORT`` on Linux),
each worker's *slot* has a socket of its own for each TCP address. Slots are never closed before the
end, not even if there are fewer workers than there were: whatever the kernel has queued there must
be accepted by somebody. All other sockets are shared by all slots.

A socket that this module opened it also closes, and a Unix socket's file it removes if it is still
the one it made. Sockets that a caller handed in, as objects or by number, stay the caller's: only
duplicates are served and closed. (Being non-blocking belongs to the socket, not to a descriptor of
it; the caller's setting is restored at the end.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..config import Config
from ..config.records import dataclass
from ..config.trust import unix_path
from ..errors import BindError, ConfigError
from ..types import Address

type Handed = tuple[int, int | None, bool, tuple[str, int, int] | None]
"""A listener for another process: descriptor, and of ``_Listener`` slot, owned, inode."""


@dataclass(frozen=True, slots=True)
class _Listener:
    sock: socket.socket
    owned: bool
    was_blocking: bool
    slot: int | None = None  # whose it is, if there is such a slot; None: shared
    inode: tuple[str, int, int] | None = None  # path, device, inode of a Unix socket we made
    to_own: bool = False  # once the process that has it now gives it up


# Elsewhere the option means something else, or that the last socket gets all.
_PER_SLOT = sys.platform == "linux" and hasattr(socket, "SO_REUSEPORT")
_PORT_TRIES = 20
_AF_UNIX = getattr(socket, "AF_UNIX", None)
_LOOPBACK = ("127.0.0.1", "::1")
"""``localhost``, whatever a system's files say (RFC 6761 section 6.3): browsers try both."""

type _Resolved = tuple[int, int, int, str, tuple[object, ...]]
"""An item of what ``getaddrinfo()`` returns."""


class Listeners:
    """The listening sockets of a supervisor.

    Args:
        config: Says where to listen unless ``sockets`` are given.
        sockets: Bound stream sockets of the caller's.
        handed: Those of a process that this one takes over from, instead of all else. Until
            ``take_over()`` they are its own.

    Attributes:
        addresses: Where they listen, each address once.
        slots: Number of slots that there are sockets for.

    Raises:
        BindError: An address is taken, not ours to take, or not an address.
        ConfigError: An entry of ``bind`` can't be understood.
    """

    def __init__(
        self,
        config: Config,
        sockets: Sequence[socket.socket] = (),
        handed: Sequence[Handed] = (),
    ) -> None:
        self._config = config
        self._listeners: list[_Listener] = []
        self.slots = 1
        try:
            if handed:
                self._accept_handed(handed)
            elif sockets:
                for sock in sockets:
                    self._adopt(sock.fileno(), f"socket {sock!r}")
            elif config.fd is not None:
                self._adopt(config.fd, f"fd://{config.fd}")
            elif config.uds is not None:
                self._open_unix(config.uds)
            elif config.bind:
                for entry in config.bind:
                    self._open(entry)
            else:
                self._open_tcp(config.host, config.port, config.host)
            self.grow(config.workers)
        except BaseException:
            self.close()
            raise
        self.addresses: tuple[Address, ...] = tuple(
            dict.fromkeys(_address(x.sock) for x in self._listeners if not x.slot)
        )

    @property
    def url(self) -> str:
        """Base URL of the first TCP address, or of the Unix socket if there is no other."""
        scheme = "https" if self._config.tls else "http"
        for host, port in self.addresses:
            if port is not None:
                host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
                return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        from urllib.parse import quote  # rarely needed, and not cheap to import

        return f"{scheme}+unix://{quote(self.addresses[0][0], safe='')}"

    def __iter__(self) -> Iterator[socket.socket]:
        return iter([x.sock for x in self._listeners])

    def grow(self, slots: int) -> None:
        """Open sockets for more slots; ``BindError``: that is not possible."""
        new: list[tuple[int, socket.socket]] = []
        where = ""
        # (One of a process before this one that had more slots is there already.)
        there = {x.slot for x in self._listeners}
        try:
            for slot in {*range(self.slots, slots)} - there:
                for first in [x for x in self._listeners if x.slot == 0]:
                    where = "{}:{}".format(*_address(first.sock))
                    new.append((slot, _another(first.sock)))
            # Not before all are bound: one that listens is given connections, which somebody must
            # want.
            listening = [self._listen(sock, slot) for slot, sock in new]
        except BaseException as exc:
            for _, sock in new:
                sock.close()
            if not isinstance(exc, OSError):
                raise
            raise BindError(where, exc.strerror or str(exc), exc.errno) from None
        self._listeners += listening
        self.slots = max(self.slots, slots)

    def of_slot(self, slot: int) -> list[int]:
        """Descriptors of the sockets that are this slot's alone."""
        return [x.sock.fileno() for x in self._listeners if x.slot == slot]

    def duplicate(self, slot: int = 0, *, shared: bool = True) -> list[tuple[int, int]]:
        """Return (descriptor, family) of a duplicate of each socket of a slot, for a worker to own.

        With ``shared``, of those that are shared, too: that are no slot's, or of one that only a
        process before this one had, where the kernel may have queued something.
        """
        duplicates: list[tuple[int, int]] = []
        try:
            for x in self._listeners:
                is_shared = x.slot is None or x.slot >= self.slots
                if x.slot != slot and not (shared and is_shared):
                    continue
                duplicates.append((os.dup(x.sock.fileno()), int(x.sock.family)))
        except OSError:
            for fd, _ in duplicates:
                os.close(fd)
            raise
        return duplicates

    def hand_over(self) -> list[Handed]:
        """What another process needs to go on with them, besides the descriptors themselves."""
        return [(x.sock.fileno(), x.slot, x.owned, x.inode) for x in self._listeners]

    def give_up(self) -> None:
        """Leave them to a process that they were handed over to: only close descriptors."""
        self._listeners = [replace(x, owned=False, was_blocking=False) for x in self._listeners]

    def take_over(self) -> None:
        """Own what the process has given up that has handed it over."""
        self._listeners = [replace(x, owned=x.owned or x.to_own) for x in self._listeners]

    def _accept_handed(self, handed: Sequence[Handed]) -> None:
        for fd, slot, own, inode in handed:
            os.set_inheritable(fd, False)
            sock = socket.socket(fileno=fd)
            self._listeners.append(
                _Listener(sock, False, False, slot, inode and (*inode,), to_own=own)
            )

    def bar(self, *, local: bool) -> None:
        """Let no new connection queue up, so that ``refuse()``, which must follow, breaks none.

        What is queued can be accepted, and handshakes under way go on. Only that is barred which
        ends here, too: what is the caller's, or another process goes on to serve, is left.

        Args:
            local: Unix sockets, where those who connect are refused at once, and which are readable
                from then on, rather than TCP: there who connects hears nothing, so that his system
                tries again after a second, to be refused then. (Where the system can't do that,
                nearly no connection queues up.)
        """
        for listener in self._listeners:
            if listener.owned and (listener.sock.family == _AF_UNIX) is local:
                with contextlib.suppress(OSError):
                    _bar(listener.sock)

    def refuse(self) -> None:
        """Close what was opened here; connections that nobody accepted are refused.

        What is the caller's stays as it is, since a worker that still accepts must not block there.
        """
        own = [x for x in self._listeners if x.owned]
        self._listeners = [x for x in self._listeners if not x.owned]
        while own:
            listener = own.pop()
            # A worker that could not be stopped has a duplicate; nobody shall wait for it.
            with contextlib.suppress(OSError):
                listener.sock.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):  # an application has closed it, with all others
                listener.sock.close()
            if listener.inode is not None:
                _unlink_own(*listener.inode)

    def close(self) -> None:
        """Close all; only when no worker accepts from it any more."""
        self.refuse()
        while self._listeners:
            listener = self._listeners.pop()
            with contextlib.suppress(OSError):
                listener.sock.setblocking(listener.was_blocking)
            with contextlib.suppress(OSError):
                listener.sock.close()

    # --- opening

    def _open(self, entry: str) -> None:
        """Open one entry of ``bind``."""
        if entry.startswith("unix:"):
            self._open_unix(entry.removeprefix("unix:"))
        elif entry.startswith("fd://"):
            number = entry.removeprefix("fd://")
            if not number.isdecimal():
                raise ConfigError("bind", f"{entry!r} must be fd:// and a number")
            self._adopt(int(number), entry)
        else:
            host, colon, port = entry.rpartition(":")
            if not colon or "]" in port:
                host, port = entry, str(self._config.port)
            if host.startswith("[") and host.endswith("]"):
                host = host[1:-1]
            elif ":" in host:
                raise ConfigError("bind", f"{entry!r}: an IPv6 address needs brackets")
            if not port.isdecimal() or int(port) > 65535:
                raise ConfigError("bind", f"{entry!r} has no valid port")
            self._open_tcp(host, int(port), entry)

    def _open_tcp(self, host: str, port: int, name: str) -> None:
        """Open all addresses of a host, with the same port."""
        where = name if ":" in name.rpartition("]")[2] else f"{name}:{port}"
        found: list[_Resolved] = []
        try:
            for each in _LOOPBACK if host.lower() == "localhost" else (host,):
                # (As octets: text would be encoded by a codec whose imports take 5 ms.)
                wanted = each.encode() if each.isascii() else each
                found += socket.getaddrinfo(
                    wanted or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )
        except (socket.gaierror, UnicodeError) as exc:
            cure = ""
            if host.count(":") == 1:  # (no IPv6 address)
                cure = "; a port is given by port, or with the host by bind, and no scheme"
            text = f"{host!r} is not the address of a host ({exc}){cure}"
            raise BindError(where, text) from None
        tries = 1 if port else _PORT_TRIES
        while True:
            try:
                self._bind_all(list(dict.fromkeys(found)), port, where)
                return
            except BindError as exc:
                # A port that is free for one address need not be so for the next, or for long.
                tries -= 1
                if exc.errno != errno.EADDRINUSE or not tries:
                    raise

    def _bind_all(self, found: list[_Resolved], port: int, where: str) -> None:
        """Bind the addresses of a host that this system has, or none if one of them is taken."""
        # "::" alone serves IPv4 too; beside an IPv4 address it must leave that to it.
        only = any(x.sock.family == socket.AF_INET for x in self._listeners)
        only = only or any(family == socket.AF_INET for family, *_ in found)
        before = len(self._listeners)
        absent: BindError | None = None
        for family, kind, proto, _, (host, _, *more) in found:
            try:
                listener = self._bind_first(family, kind, proto, (host, port, *more), only=only)
            except OSError as exc:
                which = f"{where} ({host})" if len(found) > 1 else where
                failure = BindError(which, exc.strerror or str(exc), exc.errno)
                if exc.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    absent = failure  # such as ::1 where there is no IPv6
                    continue
                while len(self._listeners) > before:
                    self._listeners.pop().sock.close()
                raise failure from None
            self._listeners.append(listener)
            port = listener.sock.getsockname()[1]  # which the kernel has chosen, if it was 0
        if absent is not None and len(self._listeners) == before:
            raise absent

    def _bind_first(
        self, family: int, kind: int, proto: int, address: tuple[object, ...], *, only: bool
    ) -> _Listener:
        """Bind the first socket of an address, if nobody else listens there.

        With ``SO_REUSEPORT`` set it would share the port with another server of the same user's.
        """
        if not _PER_SLOT:
            return self._listen(_bound(family, kind, proto, address, only=only), None)
        with _bound(family, kind, proto, address, only=only) as probe:
            found = probe.getsockname()
        sock = _bound(family, kind, proto, found, only=only, shared_port=True)
        return self._listen(sock, 0)

    def _listen(self, sock: socket.socket, slot: int | None) -> _Listener:
        try:
            sock.listen(self._config.backlog)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return _Listener(sock, owned=True, was_blocking=True, slot=slot)

    def _open_unix(self, path: str) -> None:
        path = unix_path(path)
        name = f"unix:{path}"
        if not path:
            raise ConfigError("bind", "unix: needs a path")
        if sys.platform == "win32":
            raise ConfigError("bind", "unix: there are no Unix sockets on this system")
        abstract = path.startswith("@")  # Linux: a name without a file
        if not abstract:
            _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        inode = None
        try:
            sock.bind(b"\0" + path[1:].encode("utf-8", "surrogateescape") if abstract else path)
            if not abstract:
                made = os.stat(path)
                inode = (os.path.abspath(path), made.st_dev, made.st_ino)
                # Nobody can connect before listen(), so that no other mode is ever in force.
                os.chmod(path, self._config.uds_permissions)
            sock.listen(self._config.backlog)
            sock.setblocking(False)
        except OSError as exc:
            sock.close()
            if inode is not None:
                _unlink_own(*inode)
            raise BindError(name, exc.strerror or str(exc), exc.errno) from None
        self._listeners.append(_Listener(sock, owned=True, was_blocking=True, inode=inode))

    def _adopt(self, fd: int, name: str) -> None:
        """Take a duplicate of a socket that is somebody else's."""
        try:
            duplicate = os.dup(fd)
        except OSError as exc:
            raise BindError(name, exc.strerror or str(exc), exc.errno) from None
        try:
            sock = socket.socket(fileno=duplicate)
        except OSError as exc:
            os.close(duplicate)
            raise BindError(name, f"not a socket ({exc.strerror})", exc.errno) from None
        try:
            if sock.type != socket.SOCK_STREAM:
                raise BindError(name, "not a stream socket")
            if _address(sock) in (("", None), ("0.0.0.0", 0), ("::", 0)):
                raise BindError(name, "the socket is not bound to an address")
            was_blocking = os.get_blocking(duplicate)
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.listen(self._config.backlog)
            sock.setblocking(False)
        except OSError as exc:
            sock.close()
            if isinstance(exc, BindError):
                raise
            raise BindError(name, exc.strerror or str(exc), exc.errno) from None
        self._listeners.append(_Listener(sock, owned=False, was_blocking=was_blocking))


def _bound(
    family: int,
    kind: int,
    proto: int,
    address: tuple[object, ...],
    *,
    only: bool,
    shared_port: bool = False,
) -> socket.socket:
    """Return a socket that is bound and does not listen yet; with ``only``, not for IPv4 too."""
    sock = socket.socket(family, kind, proto)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only))
        if sys.platform == "linux" and shared_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _another(sock: socket.socket) -> socket.socket:
    """Bind another socket to the address of one that shares its port."""
    only = sock.family == socket.AF_INET6 and bool(
        sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    )
    return _bound(
        sock.family, sock.type, sock.proto, sock.getsockname(), only=only, shared_port=True
    )


_SO_ATTACH_FILTER = 26  # Linux' number for it, which the socket module does not have
_LOAD_OCTET, _AND, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x54, 0x15, 0x06
_FLAGS_AT, _SYN, _ACK = 13, 0x02, 0x10  # in a TCP header, with which packets begin here
_NO_HANDSHAKES = [
    (_LOAD_OCTET, 0, 0, _FLAGS_AT),
    (_AND, 0, 0, _SYN | _ACK),
    (_JUMP_IF_EQUAL, 0, 1, _SYN),
    (_RETURN, 0, 0, 0),  # drop it
    (_RETURN, 0, 0, 0xFFFFFFFF),  # let all of it pass
]
"""A program for the kernel (classic BPF) that drops each packet which begins a handshake.

Accepted sockets inherit it from the listener, and get no such packets.
"""


def _bar(sock: socket.socket) -> None:
    """As ``Listeners.bar()``, for one."""
    if sys.platform == "linux":
        if sock.family == _AF_UNIX:
            sock.shutdown(socket.SHUT_RD)  # what is queued can still be accepted
            return
        try:
            _attach(sock, _NO_HANDSHAKES)
            return
        except (ImportError, OSError):
            pass  # a sandbox, say, or no descriptor is left to load something by
    sock.listen(0)


def _attach(sock: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    """Have the kernel run a filter on the packets that come for a socket."""
    from array import array  # not before the end
    from struct import pack

    code = array("B", b"".join(pack("HBBI", *instruction) for instruction in program))
    address, _ = code.buffer_info()
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pack("HP", len(program), address))


def _address(sock: socket.socket) -> Address:
    name = sock.getsockname()
    return (name[0], name[1]) if isinstance(name, tuple) else (unix_path(name), None)


def _remove_stale(path: str) -> None:
    """Remove the file of a Unix socket, unless somebody listens there, or it is something else."""
    if sys.platform == "win32":
        return
    name = f"unix:{path}"
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as exc:
        raise BindError(name, exc.strerror or str(exc), exc.errno) from None
    if not stat.S_ISSOCK(mode):
        raise BindError(name, "the file exists and is not a socket", errno.EADDRINUSE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        except FileNotFoundError:
            return
        except OSError:
            pass  # a full queue, or no permission: somebody's all the same
    raise BindError(name, "another server listens there", errno.EADDRINUSE)


def _unlink_own(path: str, device: int, inode: int) -> None:
    with contextlib.suppress(OSError):
        now = os.stat(path)
        if (now.st_dev, now.st_ino) == (device, inode):
            os.unlink(path)
