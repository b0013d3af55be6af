"""The Autobahn test suite's cases against a WebSocket server: `python -m conformance.autobahn`.

`wstest` finds and runs the suite, `report` reads what it found, `cli` is the command line.
"""
