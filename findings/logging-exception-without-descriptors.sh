#!/bin/sh
# CPython 3.13 and 3.15: a process that has no descriptor left loses what logging.exception() says of
# it, message and all; logging.error() is written.
#
# One would bet that the line which reports "Too many open files" needs no file itself: standard error
# is open, and logging imports traceback when it is imported. But to format a traceback, linecache
# imports tokenize (3.13) and traceback imports _colorize (3.15), each when first called. These imports
# fail with the same OSError, logging counts that as an error of the handler's, and can't format it
# either: "--- Logging error ---" is all that comes, without the message. CPython 3.14 has both modules
# loaded by then, and writes the record. `import tokenize, _colorize` beforehand mends it.
#
# Seen on Linux, what was logged last being logging.error("second"):
#   3.13.0, 3.15.2: "--- Logging error ---", perhaps with "Traceback (most recent call last):", "second"
#   3.14.10: "first", its traceback, "second"
#   all of them, with the two modules imported beforehand: "first", its traceback, "second"
#
#     PYTHON=/path/to/python3.15 findings/logging-exception-without-descriptors.sh
set -eu
python=${PYTHON:-python3.15}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/program.py" <<'PY'
import importlib
import logging
import os
import resource
import sys

for name in sys.argv[1:]:
    importlib.import_module(name)
logging.basicConfig(format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
held = []
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    logging.exception("first")
    logging.error("second")
PY
version=$("$python" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -I --version
"$python" -I "$folder/program.py" 2>"$folder/plain"
"$python" -I "$folder/program.py" tokenize _colorize 2>"$folder/mended"
echo "as it is:"; sed 's/^/    /' "$folder/plain"
echo "with both modules imported beforehand:"; sed 's/^/    /' "$folder/mended"

said() { grep -qxe "$2" "$folder/$1"; }
case $version in
  3.14) said plain first && said plain second ;;
  *) ! said plain first && said plain second && said plain "--- Logging error ---" ;;
esac && said mended first && said mended second && echo "AS FOUND" || { echo "CHANGED"; exit 1; }
