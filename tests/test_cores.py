"""The number of worker processes follows the cores that are available, also in a container."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pomona import cores


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """Write files as Linux has them under /proc and /sys."""
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "share"),
    [
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ("0::/kubepods/pod1/abc\n", {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
        (
            "0::/system.slice/job.service\n",
            {
                "sys/fs/cgroup/system.slice/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/system.slice/job.service/cpu.max": "max 100000\n",
            },
            3.0,
        ),
        (
            "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n",
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            "3:cpu,cpuacct:/\n",
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ("", {}, None),
    ],
)
def test_the_cpu_share_of_a_control_group_is_found(
    tmp_path: Path, groups: str, files: dict[str, str], share: float | None
) -> None:
    assert cores.quota(machine(tmp_path, groups, files)) == share


@given(st.text(), st.text())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_quota_text_gives_a_positive_share_or_none(
    tmp_path: Path, groups: str, limit: str
) -> None:
    folder = tmp_path / "proc" / "self"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup").write_text(groups, errors="replace")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True, exist_ok=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text(limit, errors="replace")
    share = cores.quota(tmp_path)
    assert share is None or share > 0


@pytest.mark.parametrize(
    ("share", "expected"), [(0.2, 1), (1.0, 1), (1.5, 2), (99.0, 4), (None, 4)]
)
def test_a_container_gets_a_process_for_each_full_or_partial_core(
    monkeypatch: pytest.MonkeyPatch, share: float | None, expected: int
) -> None:
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr(cores, "quota", lambda: share)
    assert cores.available_cores() == expected
