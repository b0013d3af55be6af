import with_pool  # noqa: F401

raise ValueError("no such luck")
