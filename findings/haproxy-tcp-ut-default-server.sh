#!/bin/sh
# HAProxy 2.6: tcp-ut on a default-server line is taken without a word, and not applied.
#
# Its changelog says that default-server supports tcp-ut, the file is valid by `haproxy -c`, and
# send-proxy on the same line is applied. But the connections to servers have no TCP_USER_TIMEOUT, so
# that a server that vanishes while a request is being sent to it is waited for as if nothing was set.
# On the server's own line it works.
#
# Seen with HAProxy 2.6.12-1+deb12u4 (Debian 12) on Linux, TCP_USER_TIMEOUT of the socket to the server:
#   server ... send-proxy tcp-ut 3s: 3000 ms; default-server send-proxy tcp-ut 3s: 0 ms
#
#     findings/haproxy-tcp-ut-default-server.sh    (Linux 5.6, Python 3.9; HAPROXY=/path/to/haproxy)
set -eu
PATH=$PATH:/usr/sbin
haproxy=${HAPROXY:-haproxy}
command -v "$haproxy" >/dev/null || apt-get install --quiet --yes --no-install-recommends haproxy
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 - "$haproxy" "$folder" <<'PY'
import ctypes
import os
import socket
import subprocess
import sys
import time

HAPROXY, FOLDER = sys.argv[1:]
PIDFD_GETFD = 438  # the system call, of all architectures
CONFIG = """
    defaults
        mode http
        timeout connect 5s
        timeout client 5s
        timeout server 5s
    listen proxy
        bind {folder}/front
        {default}
        server one 127.0.0.1:{port} {own}
"""
SETTINGS = "send-proxy tcp-ut 3s"


def user_timeout(process, port):
    """TCP_USER_TIMEOUT, in ms, of the process's connection to a port of this machine."""
    pidfd = os.pidfd_open(process.pid)
    for name in os.listdir(f"/proc/{process.pid}/fd"):
        fd = ctypes.CDLL(None).syscall(PIDFD_GETFD, pidfd, int(name), 0)
        if fd >= 0 and os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
            with socket.socket(fileno=fd) as sock:
                try:
                    if sock.getpeername() == ("127.0.0.1", port):
                        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                except OSError:
                    pass  # it listens


def measure(default="", own=""):
    """The timeout that the settings make, and whether send-proxy is in effect."""
    origin = socket.create_server(("127.0.0.1", 0))
    origin.settimeout(10)
    port = origin.getsockname()[1]
    config = f"{FOLDER}/config"
    with open(config, "w") as file:
        file.write(CONFIG.format(folder=FOLDER, port=port, default=default, own=own))
    check = subprocess.run([HAPROXY, "-c", "-f", config], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr
    process = subprocess.Popen([HAPROXY, "-q", "-db", "-f", config])
    try:
        client = socket.socket(socket.AF_UNIX)
        for _ in range(200):
            try:
                client.connect(f"{FOLDER}/front")
                break
            except OSError:
                time.sleep(0.05)
        client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        accepted, _ = origin.accept()
        accepted.settimeout(10)
        return user_timeout(process, port), accepted.recv(5) == b"PROXY"
    finally:
        process.kill()
        process.wait()


version = subprocess.run([HAPROXY, "-v"], capture_output=True, text=True).stdout.splitlines()[0]
print(version)
cases = {
    f"server ... {SETTINGS}": {"own": SETTINGS},
    f"default-server {SETTINGS}": {"default": f"default-server {SETTINGS}"},
}
found = [measure(**case) for case in cases.values()]
for name, (timeout, proxy) in zip(cases, found):
    print(f"{name}: TCP_USER_TIMEOUT {timeout} ms, send-proxy {'applied' if proxy else 'not applied'}")
as_found = " 2.6.12" in version and found == [(3000, True), (0, True)]
print("AS FOUND" if as_found else "CHANGED")
sys.exit(not as_found)
PY
