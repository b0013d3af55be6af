"""Step 2: the framework serves its applications itself."""

import signal

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import SubinterpASGIError


def serve(app, **options):
    """Serve an application, given by its import path, until Ctrl+C or SIGTERM.

    Returns an exit status. The signals are the framework's business: a Supervisor touches none.
    """
    try:
        server = Supervisor(app, **options)
    except ValueError as exc:  # a ConfigError, which names the option
        print(f"mini: {exc}")
        return 2
    signal.signal(signal.SIGTERM, lambda number, frame: server.stop())
    try:
        with server:
            print(f"mini: {app} on {server.url} with {len(server.workers)} workers", flush=True)
            server.wait()
    except KeyboardInterrupt:  # the workers have been stopped
        pass
    except SubinterpASGIError as exc:  # the port is taken, no worker starts, too many have died
        print(f"mini: {exc}")
        return 1
    return 0
