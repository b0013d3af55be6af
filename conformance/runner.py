"""Runs cases side by side and turns whatever ends them into results."""

import asyncio
import enum
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conformance.cases import exchange
from conformance.cases.model import Case, Level, ProbeCase, WireCase
from conformance.client.errors import Mismatch, Skip
from conformance.client.lab import Lab, Target
from conformance.client.messages import request


class Verdict(enum.StrEnum):
    """What a case found."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Result:
    """A case's verdict; `detail` says what was observed or why it failed."""

    case: Case
    verdict: Verdict
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run behaves."""

    timeout: float = 3.0
    jobs: int = 8


class Unreachable(Exception):
    """The target does not serve the probe application."""


async def run(
    target: Target,
    cases: Sequence[Case],
    settings: Settings,
    progress: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Run `cases` against `target`; results come back in the order of `cases`."""
    lab = Lab(target, settings.timeout)
    await lab.reports.open(target)
    gate = asyncio.Semaphore(settings.jobs)

    async def guarded(case: Case) -> Result:
        async with gate:
            result = await _run_one(case, lab)
        progress(result)
        return result

    try:
        await _require_probe_app(lab)
        return await asyncio.gather(*(guarded(case) for case in cases))
    finally:
        await lab.reports.close()


async def _run_one(case: Case, lab: Lab) -> Result:
    began = time.monotonic()
    verdict, detail = Verdict.ERROR, ""
    try:
        async with asyncio.timeout(lab.timeout * 6):
            if isinstance(case, WireCase):
                detail = await exchange.play(case, lab)
            elif isinstance(case, ProbeCase):
                await case.check(lab)
        verdict = Verdict.PASS
    except Mismatch as error:
        verdict, detail = Verdict.FAIL, str(error)
    except Skip as error:
        verdict, detail = Verdict.SKIP, str(error)
    except (ConnectionError, TimeoutError) as error:
        verdict, detail = Verdict.FAIL, f"connection failed: {error!r}"
    except Exception:
        detail = traceback.format_exc()
    return Result(case, verdict, detail, time.monotonic() - began)


async def _require_probe_app(lab: Lab) -> None:
    try:
        answer = await lab.fetch(request(b"/probe/alive?ready"))
    except (Mismatch, OSError, TimeoutError) as error:
        raise Unreachable(f"no usable answer: {error}") from error
    if answer.body != b"ready":
        raise Unreachable("the server does not serve conformance.apps:app")


async def server_name(target: Target, timeout: float) -> str:
    """The Server field of an ordinary response; asked afterwards, it shows a server alive."""
    try:
        answer = await Lab(target, timeout).fetch(request(b"/probe/alive?name"))
    except (Mismatch, OSError, TimeoutError) as error:
        raise Unreachable(f"after the run the server does not answer: {error}") from error
    return b", ".join(answer.values("server")).decode("latin-1")


def failed(results: Sequence[Result], must_only: bool = False) -> bool:
    """Whether a demand was broken that the run's exit code has to tell."""
    binding = (Level.MUST,) if must_only else (Level.MUST, Level.SHOULD)
    bad = (Verdict.FAIL, Verdict.ERROR)
    return any(result.verdict in bad and result.case.level in binding for result in results)
