"""What holds for all tests."""

import gc

from hypothesis import settings

# How long an example takes says more of the machine than of the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """Have no collection of garbage look at the tests themselves, which are 400,000 objects."""
    gc.collect()
    gc.freeze()
