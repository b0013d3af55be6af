"""Long runs that look for what short tests can't: requests lost now and then, counts that drift,
descriptors or memory that are not given back.

``python -m tests.soak`` has everything happen to a server under load, ``python -m tests.soak
reloads`` reloads one a few hundred times. Short runs of both are in tests/integration. ``python -m
tests.soak copies`` has FastAPI served from private copies of what it needs, and reloaded.
"""
