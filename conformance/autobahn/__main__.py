"""Entry point of `python -m conformance.autobahn`."""

import sys

from conformance.autobahn.cli import main

if __name__ == "__main__":
    sys.exit(main())
