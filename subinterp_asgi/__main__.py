"""``python -m subinterp_asgi``, the same as the command ``subinterp-asgi``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
