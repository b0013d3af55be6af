"""What coverage measures in the host's interpreter, so that workers' ones are measured likewise."""

from __future__ import annotations

import os
import sys

from ...types import Any


def settings() -> dict[str, Any] | None:
    """Describe what is measured here, if anything is; coverage is not imported for that."""
    control, files = sys.modules.get("coverage.control"), sys.modules.get("coverage.files")
    if control is None or files is None or (current := control.Coverage.current()) is None:
        return None
    # Paths are those of where it was begun; a test may have changed the directory since.
    folder = files.relative_directory()

    def absolute(name: str) -> str:
        path = os.path.join(folder, name)
        return path if os.path.exists(path) else name  # the name of a package

    return {
        "config": f":data:{current.config.serialize()}",
        "options": {
            "run:data_file": os.path.join(folder, current.get_option("run:data_file")),
            "run:source": [absolute(name) for name in current.get_option("run:source") or ()]
            or None,
        },
    }
