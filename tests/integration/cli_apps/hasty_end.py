"""The command line, with little patience for workers that do not end."""

import sys

from subinterp_asgi import cli, ending

if __name__ == "__main__":
    ending.STOP_MARGIN = 0.2
    sys.exit(cli.main())
