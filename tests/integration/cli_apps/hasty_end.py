"""The command line, with little patience for workers that do not end."""

import sys

from subinterp_asgi import __main__ as cli
from subinterp_asgi.supervisor.policy import shutdown

if __name__ == "__main__":
    shutdown.STOP_MARGIN = 0.2
    sys.exit(cli.main())
