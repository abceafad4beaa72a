"""What a process does that is alone, and which environments name others; tests/devices has two of them."""

import pytest

from isolator_jax import processes

SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_NTASKS": "2", "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}  # fmt: skip
MPI = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911", "OMPI_COMM_WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        (SLURM, True),
        (SLURM | {"SLURM_NTASKS": "1"}, False),
        # The batch script itself, outside srun.
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, False),
        (MPI, True),
        (MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, False),
    ],
)
def test_the_environment_names_several_processes(environment, several, monkeypatch):
    for name in (*SLURM, *MPI):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes.in_a_cluster() == several


def test_one_process_does_all_itself_and_raises_its_own_errors(tmp_path):
    assert processes.count() == 1 and processes.is_first()
    kept = object()
    assert processes.first(lambda: kept) is processes.each(lambda: kept) is processes.of_first(kept) is kept
    assert processes.anywhere(True) and not processes.anywhere(False)
    for call in (processes.first, processes.each):
        with pytest.raises(ZeroDivisionError) as raised:
            call(lambda: 1 // 0)
        assert not processes.is_of_all(raised.value)
    processes.same("flags", lambda: pytest.fail("there is none to compare with"))
    processes.check_shared(tmp_path / "nowhere")
