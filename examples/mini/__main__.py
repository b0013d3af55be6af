"""Step 3: a command for users of the framework, with the server's options by their names."""

import argparse
import sys

from . import serve

parser = argparse.ArgumentParser("mini")
parser.add_argument("app", help="for example examples.shop:app")
parser.add_argument("--port", type=int, default=8000)
parser.add_argument("--workers", type=int, default=2)
parser.add_argument("--reload", action="store_true", help="serve each edit when it is saved")

if __name__ == "__main__":
    arguments = vars(parser.parse_args())
    sys.exit(serve(arguments.pop("app"), state={"currency": "EUR"}, **arguments))
