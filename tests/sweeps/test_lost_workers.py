"""Workers, and a machine of a cluster, that are killed while they run groups of a sweep."""

import pytest

from tests.faults.training import remains
from tests.faults.workers import LAUNCHERS, SWEEP, finish, kill_workers, reference, start, wait_for_workers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def whole(folder):
    """What the sweep leaves that runs in lanes."""
    return reference(folder)


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_a_worker_that_is_killed_costs_nothing_but_time(launcher, number, folder, whole):
    if launcher == "ray":
        pytest.importorskip("ray")
    kill_workers(folder, f"{launcher}-{number}", LAUNCHERS[launcher], number)
    assert remains(folder / f"{launcher}-{number}") == whole


@pytest.fixture
def cluster():
    """A Ray cluster of two machines with a core each, both of them this one."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield cluster
    cluster.shutdown()


def test_the_group_of_a_machine_that_is_lost_goes_on_at_another_one(cluster, folder, whole):
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    launcher = [*LAUNCHERS["ray"], f"hydra.launcher.ray.init.address={cluster.address}"]
    process = start(folder, *SWEEP, *launcher, "hydra.sweep.dir=cluster")
    while process.poll() is None and len(wait_for_workers(process, folder / "cluster")) < 2:
        pass
    cluster.remove_node(node, allow_graceful=False)
    output = finish(process)
    assert "they go on in another one" in output
    assert remains(folder / "cluster") == whole


def test_a_sweep_that_one_launcher_has_begun_another_ends(folder, whole):
    process = start(folder, *SWEEP, *LAUNCHERS["joblib"], "hydra.sweep.dir=changed")
    wait_for_workers(process, folder / "changed")
    process.kill()
    process.communicate()
    finish(start(folder, "resume", "changed", *LAUNCHERS["submitit_local"]))
    assert remains(folder / "changed") == whole
