"""``workers="auto"``: what control groups of both versions and the affinity mask allow."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from subinterp_asgi import Config
from subinterp_asgi.config.cpus import available_cpus
from subinterp_asgi.errors import ConfigError
from tests.support import ROOT

CPU = Path("/sys/fs/cgroup/cpu")


@pytest.fixture(autouse=True)
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "process_cpu_count", lambda: 16)


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("maximum", "cpus"),
    [("max 100000", 16), ("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1)],
)
def test_version_2(tmp_path: Path, maximum: str, cpus: int) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/shop.slice/shop.service\n")
    write(tmp_path, "sys/fs/cgroup/shop.slice/shop.service/cpu.max", f"{maximum}\n")
    assert available_cpus(tmp_path) == cpus


def test_a_group_above(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/shop.slice/shop.service\n")
    write(tmp_path, "sys/fs/cgroup/shop.slice/shop.service/cpu.max", "400000 100000\n")
    write(tmp_path, "sys/fs/cgroup/shop.slice/cpu.max", "300000 100000\n")
    assert available_cpus(tmp_path) == 3


def test_version_2_in_a_container(tmp_path: Path) -> None:
    """Which sees the path of the host, and its own group as the top."""
    write(tmp_path, "proc/self/cgroup", "0::/kubepods/pod1/abc\n")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "250000 100000\n")
    assert available_cpus(tmp_path) == 3


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_version_1(tmp_path: Path, folder: str) -> None:
    write(tmp_path, "proc/self/cgroup", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n")
    write(tmp_path, f"sys/fs/cgroup/{folder}/docker/abc/cpu.cfs_quota_us", "500000\n")
    write(tmp_path, f"sys/fs/cgroup/{folder}/docker/abc/cpu.cfs_period_us", "100000\n")
    assert available_cpus(tmp_path) == 5


@pytest.mark.parametrize("text", ["", "0::/\n", "4:cpu:/\n"])
def test_no_limit(tmp_path: Path, text: str) -> None:
    assert available_cpus(tmp_path) == 16
    write(tmp_path, "proc/self/cgroup", text)
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    assert available_cpus(tmp_path) == 16


@contextlib.contextmanager
def a_group(quota: int, period: int) -> Iterator[Path]:
    group = CPU / f"test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text(str(period))
        (group / "cpu.cfs_quota_us").write_text(str(quota))
    except OSError as exc:
        pytest.skip(f"no control group of version 1 can be made: {exc}")
    try:
        yield group
    finally:
        group.rmdir()


def workers_of(prefix: str = "") -> str:
    script = f"{prefix}\nfrom subinterp_asgi import Config\nprint(Config(workers='auto').workers)"
    done = subprocess.run(
        [sys.executable, "-X", "cpu_count=16", "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_in_a_real_group() -> None:
    with a_group(300_000, 100_000) as group:
        joins = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')"
        assert workers_of(joins) == "3"


def test_as_an_option() -> None:
    assert int(workers_of()) >= 1
    config = Config(workers="auto")  # type: ignore[arg-type]
    assert config.workers == available_cpus()
    assert Config.from_json(config.to_json()) == config
    with pytest.raises(ConfigError, match="or 'auto'"):
        Config(workers="many")  # type: ignore[arg-type]
