"""The options as flags, and as variables of the environment, of the command.

Read off the declarations of ``Config``: a group begins with the option that ``_GROUPS`` names, what
an option takes follows from its type and name.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import Field, fields
from functools import partial
from itertools import zip_longest

from ..types import TYPE_CHECKING
from .checks import choice
from .options import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

PREFIX = "SUBINTERP_ASGI_"
"""Variables of the environment that stand for options begin so."""

_GROUPS = {
    "host": "where to listen",
    "workers": "workers",
    "lifespan": "life cycle",
    "reload": "reloading",
    "startup_timeout": "start and stop",
    "root_path": "HTTP",
    "ws_max_size": "WebSockets",
    "proxy_headers": "proxies",
    "ssl_certfile": "TLS",
    "health_path": "health and metrics",
    "access_log": "logs",
}
_COMMON = (
    *("host", "port", "bind", "uds", "workers", "isolation", "extensions", "factory"),
    *("reload", "reload_dir", "timeout_graceful_shutdown", "root_path", "forwarded_allow_ips"),
    *("ssl_certfile", "ssl_keyfile", "health_path", "access_log", "log_level", "log_config"),
)
"""What help shows unless more is asked for."""
_SHORT = {"workers": "-w", "bind": "-b"}
_ITEMS = {
    "access_log_exclude": "PATH",
    "hide_modules": "MODULE",
    "lazy_imports_except": "MODULE",
    "reload_dir": "DIR",
    "reload_include": "PATTERN",
    "reload_exclude": "PATTERN",
}  # what one of a list is, if not an address

_ELSEWHERE = {
    "--access-logfile": "--access-log",
    "--access-logformat": "--access-log-format",
    "--chdir": "--app-dir",
    "--graceful-timeout": "--timeout-graceful-shutdown",
    "--keep-alive": "--timeout-keep-alive",
    "--max-requests": "--limit-max-requests",
    "--max-requests-jitter": "--limit-max-requests-jitter",
    "--timeout": "--timeout-worker-healthcheck",
    "--worker-connections": "--limit-connections",
}  # what gunicorn calls other than uvicorn and this, and nobody would find by the name
_NO_CHOICE = "there is nothing to choose, for loop, HTTP and WebSockets are this server's own"
_FOREGROUND = "it stays in the foreground, as a service manager wants it"
_ABSENT = {
    "--daemon": _FOREGROUND,
    "--env-file": "export the variables, or have a service manager read the file",
    "--http": _NO_CHOICE,
    "--interface": "applications are ASGI 3",
    "--loop": _NO_CHOICE,
    "--preload": "each worker imports the application in an interpreter of its own",
    "--reload-delay": "a reload begins as soon as files no longer change",
    "--threads": "a worker is one event loop; --workers uses more processors",
    "--user": "start it as that user; a service manager may pass privileged ports on",
    "--worker-class": _NO_CHOICE,
    "--ws": _NO_CHOICE,
    "-D": _FOREGROUND,
    "-k": _NO_CHOICE,
}  # what uvicorn or gunicorn have, and this has no need of

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_OCTETS = {"": 1, "b": 1} | {
    unit: base**power
    for power, letter in enumerate("kmg", 1)
    for unit, base in ((letter, 1024), (f"{letter}ib", 1024), (f"{letter}b", 1000))
}
_TRUTH = {"1": True, "true": True, "on": True, "yes": True}
_TRUTH |= {"0": False, "false": False, "off": False, "no": False}


class Parser(argparse.ArgumentParser):
    """Reads all options from flags, and knows only those that were given. Errors are two lines."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            usage="%(prog)s [options] APP",
            formatter_class=_Formatter,
            argument_default=argparse.SUPPRESS,
            add_help=False,
            allow_abbrev=False,  # what stands in scripts must not become ambiguous by a new option
            **settings,
        )
        # Groups by the names of its own. What it is given itself it tries with a formatter, which
        # imports 10 ms of modules that only help needs.
        self.positional = self.add_argument_group("positional arguments")
        self.general = self.add_argument_group("options")
        self.general.add_argument(
            *("-h", "--help"),
            action=_Help,
            metavar="[GROUP]",
            help="show the options that most use, those of a group, or all",
        )
        self._shown = ""

    def add_options(self) -> None:
        """Declare a flag for each option."""
        group: Any = self
        for option in fields(Config):
            if option.name in _GROUPS:
                group = self.add_argument_group(_GROUPS[option.name])
            short = _SHORT.get(option.name)
            flags = [short] * (short is not None) + [flag(option.name)]
            group.add_argument(*flags, **_settings(option), help=_help(option))

    @property
    def _groups(self) -> list[Any]:
        """Those of options of ``Config``."""
        titles = _GROUPS.values()
        return [group for group in self._action_groups if group.title in titles]

    def show(self, wanted: str) -> None:
        """Print help on the groups that a word of the title of begins so, or ``all``, and exit."""
        word = wanted.lower()
        titles = [group.title for group in self._groups]
        if ":" in word:
            word = ""  # the application
        elif word != "all" and not any(map(partial(_is_named, word), titles)):
            self.error(f"argument -h/--help: no group {wanted!r}; there are {', '.join(titles)}")
        self._shown = word
        self.print_help()
        self.exit()

    def format_help(self) -> str:
        """Put together what is to be shown."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        if self._shown in ("", "all"):
            formatter.add_text(self.description)
            sections = [(group.title, group._group_actions) for group in self._action_groups]
            if not self._shown:
                common = [a for a in self._actions if a.dest in _COMMON]
                sections = [*sections[: -len(self._groups)], ("options that most use", common)]
        else:
            chosen = [group for group in self._groups if _is_named(self._shown, group.title)]
            sections = [(group.title, group._group_actions) for group in chosen]
        for title, actions in sections:
            formatter.start_section(title)
            formatter.add_arguments(actions)
            formatter.end_section()
        if not self._shown:
            titles = ", ".join(_GROUPS.values())
            formatter.add_text(f"For more: --help all, or --help and a word of: {titles}.")
        if self._shown in ("", "all"):
            formatter.add_text(self.epilog)
        return formatter.format_help()

    def parse(self, arguments: Any) -> dict[str, Any]:
        """Return what was given."""
        self._refuse_values_of_switches(sys.argv[1:] if arguments is None else arguments)
        found, unknown = self.parse_known_args(arguments)
        if unknown:
            names = [name for action in self._actions for name in action.option_strings]
            name = unknown[0].partition("=")[0]
            if same := _ELSEWHERE.get(name):
                close = f"; here it is {same}"
            elif name in _ABSENT:
                close = f": {_ABSENT[name]}"
            else:
                from .suggestion import suggestion

                close = suggestion(name, names)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{close}")
        return vars(found)

    def _refuse_values_of_switches(self, arguments: Sequence[str]) -> None:
        for given, following in zip_longest(arguments, arguments[1:], fillvalue=""):
            name, equals, value = given.partition("=")
            action = self._option_string_actions.get(name)
            if isinstance(action, argparse.BooleanOptionalAction) and (
                equals or following.lower() in _TRUTH
            ):
                on, off = action.option_strings
                text = f"takes no value ({value or following}): {on} turns it on, {off} off"
                self.error(f"argument {name}: {text}")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"usage: {self.prog} [options] APP; --help all lists them\nError: {message}\n")


class _Help(argparse.Action):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, nargs="?")

    def __call__(self, parser: Any, namespace: object, values: Any, option: object = None) -> None:
        parser.show(values or "")


def _is_named(word: str, title: str) -> bool:
    return any(part.startswith(word) for part in title.lower().split())


class _Formatter(argparse.HelpFormatter):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, max_help_position=30)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, argparse.BooleanOptionalAction):
            return action.option_strings[0].replace("--", "--[no-]", 1)
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        values = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
        return f"{', '.join(action.option_strings)} {action.metavar or values}"


def flag(name: str) -> str:
    """The flag of an option."""
    return "--" + name.replace("_", "-")


def from_environment(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the options that the environment sets, and warnings of what may be meant so.

    ``ValueError``: a value can't be understood.
    """
    options, names = {}, {PREFIX + option.name.upper(): option for option in fields(Config)}
    warnings = []
    for variable, text in environment.items():
        if variable in names:
            option = names[variable]
            try:
                options[option.name] = _read(option, text)
            except (ValueError, argparse.ArgumentTypeError) as exc:
                raise ValueError(f"{variable}: {exc}") from None
        elif variable.startswith(PREFIX):
            from .suggestion import suggestion

            close = suggestion(variable, names, 0.9)  # (the most of it is alike in all)
            warnings += [f"{variable}, in the environment, is no option{close}"] * (close != "")
    return options, warnings


def _read(option: Field[Any], text: str) -> Any:
    if str(option.type) == "bool":
        if text.lower() not in _TRUTH:
            raise ValueError(f"must be true or false, not {text!r}")
        return _TRUTH[text.lower()]
    if str(option.type).startswith("tuple"):
        return tuple(filter(None, map(str.strip, text.split(","))))
    convert = _settings(option).get("type")
    return text if convert is None else convert(text)


def _settings(option: Field[Any]) -> dict[str, Any]:
    """What ``add_argument()`` is to know of an option."""
    name, kind, check = option.name, str(option.type), option.metadata["check"]
    last = name.rpartition("_")[2].upper()
    if kind == "bool":
        return {"action": argparse.BooleanOptionalAction}
    if kind.startswith("tuple"):
        return {"action": "append", "metavar": _ITEMS.get(name, "ADDRESS")}
    if isinstance(check, choice):
        return {"choices": check}
    if name == "uds_permissions":
        return {"type": _octal, "metavar": "MODE"}
    convert: Callable[[str], Any]
    if kind.startswith("float"):
        convert, metavar = _duration, "TIME"
    elif name == "workers":
        convert, metavar = _workers, "N"
    elif name == "workers_max_rss":
        convert, metavar = _mebibytes, "SIZE"
    elif name.endswith("_size") or name == "limit_request_line":
        convert, metavar = _size, "SIZE"
    else:
        convert, metavar = (_integer, "N") if kind.startswith("int") else (str, last)
    return {"type": _optional(convert) if kind.endswith("None") else convert, "metavar": metavar}


def _help(option: Field[Any]) -> str:
    """The first sentence of what is said of an option, and its default."""
    text = option.metadata["doc"].partition(". ")[0].rstrip(".")
    default: Any = option.default
    kind = str(option.type)
    if default is None or default in ((), ""):
        return str(text).replace("%", "%%")
    if kind == "bool":
        shown = "on" if default else "off"
    elif isinstance(default, tuple):
        shown = ", ".join(default)
    elif option.name == "uds_permissions":
        shown = f"{default:o}"
    elif kind.startswith("float"):
        shown = f"{default:g}s"
    else:
        shown = f"{default >> 20}MiB" if option.name == "ws_max_size" else str(default)
    return f"{text} [{shown}]".replace("%", "%%")


def _optional(convert: Any) -> Any:
    return lambda text: None if text.lower() == "none" else convert(text)


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an integer, not {text!r}") from None


def _workers(text: str) -> int | str:
    return text if text == "auto" else _integer(text)


def _octal(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an octal number, not {text!r}") from None


def _duration(text: str) -> float:
    return _quantity(text, _SECONDS, "a time, such as 500ms, 5s or 2m")


def _size(text: str) -> int:
    octets = _quantity(text, _OCTETS, "a size, such as 10MB or 512KiB")
    if octets % 1 and not re.search("[kmg]", text.lower()):
        raise argparse.ArgumentTypeError(f"needs a unit, such as {text.rstrip('Bb ')}MB: {text!r}")
    return int(octets)


def _mebibytes(text: str) -> int:
    if text.isdecimal():
        return int(text)
    if re.fullmatch(r"[\d.]+", text):
        raise argparse.ArgumentTypeError(f"needs a unit, such as {text}GB: {text!r}")
    return _size(text) >> 20


def _quantity(text: str, units: Mapping[str, float], noun: str) -> float:
    found = re.fullmatch(r"(-?[\d.]+) *([a-z]*)", text.lower())
    try:
        if found is not None:
            return float(found[1]) * units[found[2]]
    except (KeyError, ValueError):
        pass
    raise argparse.ArgumentTypeError(f"must be {noun}, not {text!r}")
