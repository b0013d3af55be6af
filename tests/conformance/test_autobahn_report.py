"""Autobahn's reports, made up here: how they are judged and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance.autobahn import report as autobahn_report
from conformance.autobahn.report import Result, Unusable

from .reports import AGENT, BAD, Verdicts, entry, write_report


def results_of(folder: Path, verdicts: Verdicts) -> list[Result]:
    write_report(folder, verdicts)
    return autobahn_report.read(folder, AGENT, list(verdicts))


# --- reading a report


def test_report_in_the_order_of_cases(tmp_path: Path) -> None:
    good = ("OK", "OK")
    results = results_of(tmp_path, {"10.1.1": good, "9.1.10": good, "9.1.2": good, "1.1.1": good})
    assert [result.id for result in results] == ["1.1.1", "9.1.2", "9.1.10", "10.1.1"]
    assert [result.group for result in results] == ["1", "9", "9", "10"]
    assert results[0].seconds == 1.5
    assert results[0].close_code == 1000


@pytest.mark.parametrize("words", [("OK", "OK"), ("INFORMATIONAL", "OK"), ("OK", "INFORMATIONAL")])
def test_what_passes(tmp_path: Path, words: tuple[str, str]) -> None:
    [result] = results_of(tmp_path, {"7.1.6": words})
    assert result.passed
    assert result.verdict == ("INFORMATIONAL" if "INFORMATIONAL" in words else "OK")
    assert autobahn_report.failures([result]) == ""


@pytest.mark.parametrize("other", ["OK", "INFORMATIONAL"])
@pytest.mark.parametrize("word", BAD)
def test_what_does_not_pass(tmp_path: Path, word: str, other: str) -> None:
    results = results_of(tmp_path, {"1.1.1": (word, other), "1.1.2": (other, word)})
    assert [result.passed for result in results] == [False, False]
    assert [result.verdict for result in results] == [word, word]
    text = autobahn_report.failures(results)
    assert f"FAIL 1.1.1  behavior {word}, closing {other}, close code 1000" in text
    assert f"FAIL 1.1.2  behavior {other}, closing {word}, close code 1000" in text


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        "{}",
        '{"server": {}}',
        '{"server": []}',
        '{"another": {"1.1.1": {}}}',
        '{"server": {"1.1.1": {}}}',
        '{"server": {"1.1.1": null}}',
        json.dumps({AGENT: {"1.1.1": entry("1.1.1", duration=None)}}),
    ],
)
def test_report_that_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "index.json").write_text(text)
    with pytest.raises(Unusable):
        autobahn_report.read(tmp_path, AGENT, ["1.1.1"])


def test_cases_that_were_not_run(tmp_path: Path) -> None:
    """wstest does not mind a server that is gone halfway: it reports what it has."""
    write_report(tmp_path, {"1.1.1": ("OK", "OK")})
    with pytest.raises(Unusable, match=r"^2 of 3 cases were not run: 1\.1\.2, 1\.1\.3$"):
        autobahn_report.read(tmp_path, AGENT, ["1.1.1", "1.1.2", "1.1.3"])
    with pytest.raises(Unusable, match=r"^20 of 21 .*, \.\.\.$"):
        autobahn_report.read(tmp_path, AGENT, [f"1.1.{n}" for n in range(1, 22)])


# --- showing it


def test_a_failure_tells_what_was_expected_and_got(tmp_path: Path) -> None:
    [result] = results_of(tmp_path, {"3.2": ("NON-STRICT", "UNCLEAN")})
    result.file.write_text(
        json.dumps(
            {
                "description": "Send a <b>frame</b><br>and wait.",
                "expectation": "Fails  at once.",
                "result": "Something else.",
                "received": [["message", "x" * 10_000, False]],
                "resultClose": "Not clean.",
                "wasNotCleanReason": None,
            }
        )
    )
    text = autobahn_report.failures([result])
    for line in (
        "    case:     Send a frame and wait.",
        "    expected: Fails at once.",
        "    got:      Something else.",
        "    closing:  Not clean.",
    ):
        assert line in text.splitlines()
    assert "None" not in text
    assert len(text) < 2000


def test_a_failure_without_details(tmp_path: Path) -> None:
    write_report(tmp_path, {})
    index = {AGENT: {"3.2": entry("3.2", "FAILED", "FAILED", remoteCloseCode=None)}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    results = autobahn_report.read(tmp_path, AGENT, ["3.2"])
    assert autobahn_report.failures(results) == (
        "FAIL 3.2  behavior FAILED, closing FAILED, no close code"
    )


def test_table(tmp_path: Path) -> None:
    results = results_of(
        tmp_path,
        {
            "1.1.1": ("OK", "OK"),
            "1.1.2": ("OK", "OK"),
            "6.4.1": ("NON-STRICT", "OK"),
            "6.4.2": ("OK", "UNCLEAN"),
            "6.4.3": ("NON-STRICT", "OK"),
            "7.1.6": ("INFORMATIONAL", "INFORMATIONAL"),
            "99.1": ("OK", "OK"),
        },
    )
    assert autobahn_report.table(results).splitlines() == [
        "| group | cases | OK | informational | other | seconds |",
        "|---|---|---|---|---|---|",
        "| 1 Framing | 2 | 2 | 0 | 0 | 3 |",
        "| 6 UTF-8 | 3 | 0 | 0 | 2 NON-STRICT, 1 UNCLEAN | 4 |",
        "| 7 Closing | 1 | 0 | 1 | 0 | 2 |",
        "| 99 | 1 | 1 | 0 | 0 | 2 |",
        "| all | 7 | 3 | 1 | 2 NON-STRICT, 1 UNCLEAN | 10 |",
    ]
    line = autobahn_report.verdict_line(results, 12.3)
    assert line == "7 Autobahn cases in 12 s: 3 OK, 2 NON-STRICT, 1 UNCLEAN, 1 INFORMATIONAL"
