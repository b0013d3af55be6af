"""A file that configures ``logging``, which ``log_config`` names. Imported only for that."""

from __future__ import annotations

import logging.config
from configparser import RawConfigParser

from ..errors import ConfigError
from ..types import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


def read(path: str) -> Any:
    """Read it: what ``dictConfig()`` takes, or a parser for ``fileConfig()``.

    ``ConfigError``: that is not possible.
    """
    try:
        with open(path, encoding="utf-8") as file:
            if path.endswith(".json"):
                import json

                found = json.load(file)
            elif path.endswith((".yaml", ".yml")):
                import yaml  # type: ignore[import-untyped, import-not-found, unused-ignore]

                found = yaml.safe_load(file)
            else:
                found = RawConfigParser()
                found.read_file(file)
    except ModuleNotFoundError:
        raise ConfigError(
            "log_config", f"reading {path!r} needs PyYAML; a .json file does not"
        ) from None
    except Exception as exc:  # each of the three has errors of its own
        raise ConfigError("log_config", f"{path!r} can't be read: {_causes(exc)}") from None
    if not isinstance(found, dict | RawConfigParser):
        raise ConfigError("log_config", f"{path!r} must be an object, as dictConfig() takes it")
    return found


def apply(path: str) -> None:
    """Configure this interpreter's logging; ``ConfigError``: the file does not do."""
    found = read(path)
    try:
        if isinstance(found, dict):
            # (Loggers of this package are there already.)
            logging.config.dictConfig({"disable_existing_loggers": False, **found})
        else:
            logging.config.fileConfig(found, disable_existing_loggers=False)
    except Exception as exc:
        raise ConfigError("log_config", f"{path!r}: {_causes(exc)}") from exc


def _causes(exc: BaseException) -> str:
    """What an exception says, and those behind it, in one line: the first ones say little."""
    texts: list[str] = []
    behind: BaseException | None = exc
    while behind is not None:
        text = " ".join(str(behind).split())
        if isinstance(behind, KeyError):
            text = f"{text} is missing"
        if text and not any(text in other for other in texts):
            texts.append(text)
        behind = behind.__cause__ or (None if behind.__suppress_context__ else behind.__context__)
    return ": ".join(texts) or type(exc).__name__
