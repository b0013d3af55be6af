"""The testing package and the pytest plugin, as suites of their users use them."""
