"""Every launcher gives every result once; a killed worker is an error and leaves nobody behind."""

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from layerkit.manifests.errors import RunError, UsageError
from layerkit.pipelines import launch


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The functions to run, importable by the workers too."""
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", here, prepend=os.pathsep)  # what Ray's workers look at
    return __import__("launched_jobs")


def children() -> set[int]:
    """Workers of this process; the resource tracker, and a database of other tests, stay until the process ends."""
    found = psutil.Process().children(recursive=True)
    others = ("resource_tracker", "mongod")
    return {child.pid for child in found if not any(word in " ".join(child.cmdline()) for word in others)}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_gives_its_result(jobs: ModuleType, workers: int):
    assert sorted(launch.run("local", jobs.square, range(20), workers)) == [k * k for k in range(20)]
    assert children() == set()


@pytest.mark.parametrize("workers", [1, 2])
def test_no_items_give_no_results(jobs: ModuleType, workers: int):
    assert list(launch.run("local", jobs.square, [], workers)) == []


def test_one_worker_runs_here_and_two_run_elsewhere(jobs: ModuleType):
    assert set(launch.run("local", jobs.identity_of, range(2), 1)) == {os.getpid()}
    pids = set(launch.run("local", jobs.identity_of, range(12), 2))
    assert len(pids) == 2
    assert os.getpid() not in pids


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_taken_as_workers_fall_idle(jobs: ModuleType, workers: int):
    taken: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    results = launch.run("local", jobs.square, endless(), workers)
    assert next(results) in [k * k for k in range(len(taken))]
    assert len(taken) <= 4 * workers
    results.close()  # type: ignore[attr-defined]
    assert children() == set()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_reaches_the_caller(jobs: ModuleType, workers: int):
    with pytest.raises(UsageError, match="item 3 is bad"):
        list(launch.run("local", partial(jobs.fail_at, 3), range(8), workers))
    assert children() == set()


def test_nobody_waits_for_the_others_after_an_error(jobs: ModuleType, tmp_path: Path):
    with pytest.raises(UsageError, match="item 0 is bad"):
        list(launch.run("local", partial(jobs.fail_or_linger, tmp_path), range(2), 2))
    assert children() == set()


def test_a_killed_worker_is_an_error(jobs: ModuleType):
    with pytest.raises(RunError, match=r"a worker died.*run the same command again"):
        list(launch.run("local", partial(jobs.die_at, 3), range(8), 2))
    assert children() == set()


def test_an_unknown_launcher_is_refused(jobs: ModuleType):
    with pytest.raises(UsageError, match="expected one of local, ray, got 'slurm'"):
        launch.run("slurm", jobs.square, [], 1)


def test_ray_that_is_not_installed_is_refused(jobs: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"install layerkit\[ray\]"):
        list(launch.run("ray", jobs.square, [1], 1))


@pytest.mark.slow
def test_ray_gives_the_same_and_passes_errors_on(jobs: ModuleType):
    pytest.importorskip("ray")
    assert sorted(launch.run("ray", partial(jobs.fail_at, -1), range(10), 2)) == list(range(10))
    with pytest.raises(UsageError, match="item 3 is bad"):
        list(launch.run("ray", partial(jobs.fail_at, 3), range(8), 2))
