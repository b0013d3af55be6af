"""Applications and scripts to start from: ``make serve`` serves ``examples.site:app``."""
