"""The memory a process may hold is the least of the machine's and of every limit on it."""

import resource

import pytest

from isolator_jax import memory


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/job/step\n", {"job/memory.max": "5000", "job/step/memory.max": "max"}, 5000),
        ("0::/host/path/unseen\n", {"memory.max": "700"}, 700),
        ("4:cpu:/x\n3:memory,hugetlb:/box\n", {"memory/box/memory.limit_in_bytes": "900\n", "memory.max": "1"}, 900),
        ("0::/\n", {}, float("inf")),
    ],
)
def test_limits_of_control_groups_are_read_in_both_versions(membership, files, limit, tmp_path):
    (tmp_path / "cgroup").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert min(memory._group_limits(tmp_path / "cgroup", tmp_path / "root")) == limit


def test_a_limit_of_the_address_space_counts_and_no_limit_exceeds_the_machine(monkeypatch):
    whole = memory.host_bytes()
    assert 0 < whole
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (whole // 2, whole))
    assert memory.host_bytes() <= whole // 2
