"""A cluster of two nodes builds the bytes of one process, and goes on when a node or an actor dies."""

import hashlib
import os
import pickle
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from layerkit.manifests.errors import BadImage, RunError, UsageError
from layerkit.pipelines import launch, launch_ray
from layerkit.pipelines.build import build
from layerkit.pipelines.ledger import Commit
from layerkit.pipelines.options import BuildOptions, Progress
from layerkit.pipelines.prepare import Prepared
from layerkit.pipelines.recipe import load

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

MEMORY = 80 << 20


@pytest.fixture(scope="module")
def jobs() -> Iterator[ModuleType]:
    """The functions to run, importable by the workers too."""
    here = str(Path(__file__).parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(here)
        patch.setenv("PYTHONPATH", here, prepend=os.pathsep)
        yield __import__("ray_jobs")


def ray_processes() -> set[int]:
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if child.is_running() and "ray" in " ".join(child.cmdline())}


@pytest.fixture(scope="module")
def cluster(jobs: ModuleType) -> Iterator[Any]:
    """A head with a core and two GPUs that are none; nothing of it is left."""
    from ray.cluster_utils import Cluster

    before = ray_processes()
    noticed = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    head = {"num_cpus": 1, "num_gpus": 2, "object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head | {"_system_config": noticed})
    yield cluster
    cluster.shutdown()
    assert ray_processes() == before


@pytest.fixture(scope="module")
def joined(cluster: Any) -> Iterator[Any]:
    """The cluster, with this process as its driver."""
    import ray

    with launch_ray.session("ray", 1, cluster.address):
        yield cluster
    assert not ray.is_initialized()


def tars(build: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (build / "data").iterdir()}


# --- without a cluster; these stand before the first that starts it ---


def test_without_gpus_models_run_in_tasks(jobs: ModuleType):
    results = list(launch.run("ray", jobs.counted, range(3), 1, gpu=True))
    assert len(results) == 3
    assert ray_processes() == set()


@pytest.mark.parametrize("address", ["auto", "nonsense", "127.0.0.1:none"])
def test_an_address_without_a_cluster_is_refused(address: str):
    refused = pytest.raises(UsageError, match=rf"--address: expected .* got '{address}'.*ray start --head")
    with refused, launch_ray.session("ray", 1, address):
        pass


def test_a_dead_address_is_refused_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UsageError, match="Connection refused"), launch_ray.session("ray", 1, address):
        pass


# --- nodes ---


def test_a_node_that_dies_costs_no_byte(
    cluster: Any, tiny_build: Path, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    node = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    sent: list[object] = []

    def watched(*arguments: Any) -> Iterator[object]:
        for result in launch_ray.run_on_ray(*arguments):
            sent.append(result)
            yield result

    def strike(progress: Progress) -> None:
        if progress.stage == "build" and 0 < progress.done < progress.total and node in cluster.worker_nodes:
            cluster.remove_node(node, allow_graceful=False)

    monkeypatch.setitem(launch.LAUNCHERS, "ray", watched)
    recipe = load("demo", {"count": 12, "size": 64, "shard_size": 4})
    options = BuildOptions(out=tmp_path / "out", cache=cache_dir, launcher="ray", address=cluster.address, workers=2)
    funnel = build(recipe, options, strike)
    assert node not in cluster.worker_nodes
    assert (funnel.kept, funnel.shards_missing) == (12, 0)
    assert tars(tmp_path / "out") == tars(tiny_build)
    commits = [one for one in sent if isinstance(one, Commit)]
    rows = [row for one in sent if not isinstance(one, Commit) for row in one[1]]
    assert len(commits) == funnel.shards
    assert {type(row) for row in rows} == {Prepared}
    assert max(len(pickle.dumps(one)) for one in (*commits, *rows)) < 1500  # a channel of a picture has 4096 bytes


def test_what_a_dead_node_was_at_is_done_elsewhere(joined: Any, jobs: ModuleType, tmp_path: Path):
    home = joined.head_node.node_id
    (tmp_path / "home").write_text(home)
    node = joined.add_node(num_cpus=1, object_store_memory=MEMORY)
    results = launch.run("ray", partial(jobs.linger_once, tmp_path), range(4), 2)
    first = next(results)
    while node.node_id not in {path.read_text() for path in tmp_path.iterdir()}:
        pass
    joined.remove_node(node, allow_graceful=False)
    assert sorted([first, *results]) == [(k, home) for k in range(4)]


# --- actors ---


def test_models_are_kept_by_one_process_a_gpu(joined: Any, jobs: ModuleType):
    counts: dict[int, list[int]] = {}
    for process, number in launch.run("ray", jobs.counted, range(12), 1, gpu=True):
        counts.setdefault(process, []).append(number)
    assert len(counts) <= 2
    assert [sorted(numbers) for numbers in counts.values()] == [list(range(1, len(one) + 1)) for one in counts.values()]
    assert sum(map(len, counts.values())) == 12


def test_no_item_waits_for_a_long_one(joined: Any, jobs: ModuleType, tmp_path: Path):
    assert sorted(launch.run("ray", partial(jobs.last_of, tmp_path, 6), range(6), 1, gpu=True)) == list(range(6))


def test_the_item_of_an_actor_that_died_is_done_by_another(joined: Any, jobs: ModuleType, tmp_path: Path):
    assert sorted(launch.run("ray", partial(jobs.die_once, tmp_path), range(4), 1, gpu=True)) == list(range(4))
    assert (tmp_path / "died").exists()


def test_an_item_of_which_every_actor_dies_ends_the_run(joined: Any, jobs: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(launch_ray, "_RETRIES", 1)
    with pytest.raises(RunError, match=r"(?s)Ray gave up: .*run the same command again"):
        list(launch.run("ray", jobs.die, range(4), 1, gpu=True))


def test_items_are_taken_as_actors_fall_idle(joined: Any, jobs: ModuleType):
    taken = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    results = launch.run("ray", jobs.counted, endless(), 1, gpu=True)
    next(results)
    assert len(taken) <= 4
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("gpu", [False, True])
def test_no_items_give_no_results(joined: Any, jobs: ModuleType, gpu: bool):
    assert list(launch.run("ray", jobs.counted, [], 1, gpu=gpu)) == []


@pytest.mark.parametrize("gpu", [False, True])
def test_an_error_reaches_the_caller_as_itself(joined: Any, jobs: ModuleType, gpu: bool):
    with pytest.raises(BadImage) as raised:
        list(launch.run("ray", jobs.refuse, range(8), 1, gpu=gpu))
    assert type(raised.value) is BadImage
    assert (raised.value.reason, raised.value.detail) == ("truncated", "item 3")
