#!/bin/sh
# CPython 3.14: an interpreter that is closed keeps all its memory if a warnings filter in it names a
# category that is a class of its own.
#
# One would bet that closing an interpreter gives back what was imported there. It does for modules
# of the standard library, but not once urllib3 was imported: that adds a filter for its own
# SecurityWarning, and the class in the filter keeps the interpreter's memory, several MB each time.
# With warnings.resetwarnings() before the end, nothing else changed, it is flat.
#
# Seen with CPython 3.14.10 and urllib3 2.5.0 on Linux, MiB kept for each interpreter that was closed:
#   json, ssl, http.client 0.0; urllib3 3 to 6; urllib3 and resetwarnings() 0.0
#
#     PYTHON=/path/to/python3.14 findings/warnings-category-keeps-closed-interpreter.sh
set -eu
python=${PYTHON:-python3.14}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check urllib3==2.5.0
"$folder/bin/python" - <<'PY'
import os
import sys
from concurrent import interpreters

CASES = {
    "modules of the standard library": "import json, ssl, http.client, logging",
    "urllib3": "import urllib3",
    "urllib3, resetwarnings()": "import urllib3, warnings; warnings.resetwarnings()",
}


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


def kept(source):
    """MiB for each of 20 interpreters, after some that fill what is kept anyway."""
    for number in range(25):
        if number == 5:
            before = resident()
        interpreter = interpreters.create()
        interpreter.exec(source)
        interpreter.close()
    return (resident() - before) / 20


print(sys.version)
figures = {name: kept(source) for name, source in CASES.items()}
for name, figure in figures.items():
    print(f"{name}: {figure:.2f} MiB kept for each interpreter that was closed")
plain, library, reset = figures.values()
as_found = library > 1.0 and plain < 0.3 and reset < 0.3
print("AS FOUND" if as_found else "CHANGED")
sys.exit(not as_found)
PY
