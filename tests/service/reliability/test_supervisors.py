"""Several supervisors on one database run each job once, whichever of them is stopped or killed."""

import random
import signal
import time

import pytest

from service.states import JobStatus
from tests.service.reliability.cluster import SCRIPT, Cluster

pytestmark = pytest.mark.reliability

LONG = "echo $$ > ../../started; trap 'exit 75' TERM; while true; do sleep 0.05; done"


@pytest.mark.timeout(900)
def test_two_supervisors_run_200_jobs_on_two_slots_once_each(cluster: Cluster) -> None:
    first, second = cluster.start_supervisor(), cluster.start_supervisor()
    jobs = [cluster.submit() for _ in range(200)]
    cluster.until(lambda: sum(cluster.store.counts()[status] for status in JobStatus if status.is_terminal) > 60)
    active = cluster.active_supervisor()
    assert active in (first.pid, second.pid)
    (first if active == first.pid else second).kill()
    cluster.until(lambda: cluster.active_supervisor() not in (None, active))
    cluster.check_each_ran_alone(jobs)


def test_supervisor_that_was_stopped_past_its_lease_is_fenced_when_it_continues(cluster: Cluster) -> None:
    stopped = cluster.start_supervisor()
    job = cluster.submit(LONG)
    cluster.until((cluster.settings.run_dir(job.id) / "started").exists)
    standby = cluster.start_supervisor()
    stopped.send_signal(signal.SIGSTOP)
    cluster.until(lambda: cluster.active_supervisor() == standby.pid)
    stopped.send_signal(signal.SIGCONT)
    assert stopped.wait(60) == 1
    assert "another supervisor has taken over the jobs of this database" in cluster.log()
    assert cluster.store.get(job.id).status is JobStatus.RUNNING
    assert cluster.store.get(job.id).attempt == 1
    cluster.store.request_cancel(job.id)
    assert cluster.ended([job])[0].status is JobStatus.CANCELLED


@pytest.mark.timeout(1800)
def test_supervisors_that_are_stopped_at_random_moments_start_no_job_twice(cluster: Cluster, repetitions: int) -> None:
    supervisors = {process.pid: process for process in (cluster.start_supervisor(), cluster.start_supervisor())}
    jobs = []
    for _ in range(repetitions):
        jobs += [cluster.submit(SCRIPT.format(seconds=0.2)) for _ in range(20)]
        active = cluster.until(lambda: (pid := cluster.active_supervisor()) in supervisors and pid)
        time.sleep(random.random())
        stopped = supervisors.pop(active)
        stopped.send_signal(signal.SIGSTOP)
        if cluster.is_blocked():
            # Stopped in a transaction of SQLite, it holds the write lock. `serve` kills a supervisor that hangs.
            stopped.kill()
        cluster.until(lambda before=active: cluster.active_supervisor() not in (None, before))
        stopped.send_signal(signal.SIGCONT)
        assert stopped.wait(60) in (1, -signal.SIGKILL)
        replacement = cluster.start_supervisor()
        supervisors[replacement.pid] = replacement
    cluster.check_each_ran_alone(jobs)
