"""The whole conformance suite against this server, plain and over TLS."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import trustme

ROOT = Path(__file__).parents[2]


def run_suite(tmp_path: Path, *arguments: str) -> dict[str, int]:
    """Run it as a process and return how many cases had which outcome."""
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "conformance", "--json", str(report), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    outcomes: dict[str, int] = {}
    for result in json.loads(report.read_text())["cases"]:
        verdict = result["verdict"]
        outcomes[verdict] = outcomes.get(verdict, 0) + 1
    return outcomes


def test_plain(tmp_path: Path) -> None:
    outcomes = run_suite(tmp_path)
    assert set(outcomes) <= {"pass", "skip"}, outcomes
    assert outcomes["pass"] > 850


def test_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    cert, key, ca = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    outcomes = run_suite(tmp_path, "--tls", str(cert), str(key), "--cafile", str(ca))
    assert set(outcomes) <= {"pass", "skip"}, outcomes
    assert outcomes["pass"] > 840
