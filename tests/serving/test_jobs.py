"""Jobs outlive the service, and do not outgrow their folder."""

import sqlite3
import subprocess
import sys
import threading
import time
from typing import ClassVar

import pytest

from serving import jobs
from serving.job_runner import JobRunner
from serving.jobs import JobStore
from serving.refusal import Refusal
from tests.serving.fakes import until
from tudsr.errors import SettingsError


def store(folder, limit=5, limit_bytes=10_000, keep_s=60.0) -> JobStore:
    return JobStore(folder, limit, limit_bytes, keep_s)


def make(kept: JobStore, job: str, told: dict) -> None:
    with kept.making(job) as out:
        out.write(b"result")
    kept.done(job, told)


def test_a_restart_keeps_the_finished_and_queues_the_rest(tmp_path):
    first = store(tmp_path)
    done, begun, failed = (first.add(b"picture", {"scale": 2}, 100) for _ in range(3))
    first.running(done.id)
    make(first, done.id, {"size": [4, 4]})
    first.running(begun.id)
    first.failed(failed.id, "truncated", "it is cut off")
    first.close()
    second = store(tmp_path)
    assert second.get(done.id).state == "done"
    assert second.result(done.id).read_bytes() == b"result"
    assert [job.id for job in second.unfinished()] == [begun.id]
    assert second.picture(begun.id).read_bytes() == b"picture"
    assert second.get(begun.id).parameters == {"scale": 2}
    assert second.get(failed.id).told == {"code": "truncated", "message": "it is cut off"}


def test_a_job_that_comes_with_the_model_is_not_taken_for_one_that_was_left(tmp_path):
    """It is in the store before it has its ticket; run twice, it would stay `running` for good."""

    class Loading:
        ready = False
        planned: ClassVar[list[bytes]] = []

        def plan(self, data, asked):
            self.planned.append(data)
            raise SettingsError("so much is enough here")

    kept, engine = store(tmp_path), Loading()
    left = kept.add(b"left", {}, 100)
    runner = JobRunner(engine, kept)
    runner.start()
    new = kept.add(b"new", {}, 100)
    engine.ready = True
    until(lambda: kept.get(left.id).state == "failed")
    assert engine.planned == [b"left"]
    assert kept.get(new.id).state == "queued"
    runner.close()


_KILLED = """
import os, sys
from pathlib import Path
from serving.jobs import JobStore
store = JobStore(Path(sys.argv[1]), 9, 10**6, 60)
for k in range(3):
    job = store.add(b"picture", {}, 100)
    print(job.id, flush=True)
    with store.making(job.id) as out:
        out.write(b"result")
    store.done(job.id, {})
job = store.add(b"picture", {}, 100)
store.result(job.id).write_bytes(b"half a res")  # killed before its row says that it is done
print(job.id, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_kill_loses_no_finished_job(tmp_path):
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path)], capture_output=True, text=True
    )
    *done, begun = killed.stdout.split()
    after = store(tmp_path)
    assert len(done) == 3
    for job in done:
        assert after.get(job).state == "done"
        assert after.result(job).read_bytes() == b"result"
    assert [job.id for job in after.unfinished()] == [begun]


def test_finished_jobs_expire_with_their_files(tmp_path):
    kept = store(tmp_path, keep_s=0.05)
    job = kept.add(b"picture", {}, 100)
    make(kept, job.id, {})
    assert kept.get(job.id).state == "done"
    time.sleep(0.1)
    with pytest.raises(Refusal) as caught:
        kept.get(job.id)
    assert caught.value.status == 404
    kept.forget_old()
    assert not kept.result(job.id).exists()
    assert not kept.picture(job.id).exists()


def test_the_folder_has_a_cap_that_counts_results_to_come(tmp_path):
    small = store(tmp_path, limit_bytes=1000)
    job = small.add(bytes(300), {}, 600)
    with pytest.raises(Refusal) as caught:
        small.add(bytes(50), {}, 60)
    assert caught.value.code == "jobs_full"
    assert "900 of 1,000" in str(caught.value)
    make(small, job.id, {})
    with pytest.raises(Refusal) as caught:
        small.add(bytes(50), {}, 700)
    assert 50 < caught.value.retry_after_s <= 60, "when the finished one expires"
    small.add(bytes(50), {}, 60)


def test_there_is_a_limit_of_unfinished_jobs(tmp_path):
    few = store(tmp_path, limit=1)
    job = few.add(b"picture", {}, 10)
    with pytest.raises(Refusal, match="1 jobs are unfinished"):
        few.add(b"picture", {}, 10)
    few.delete(job.id)
    few.add(b"picture", {}, 10)


def test_a_job_is_its_owners_alone(tmp_path):
    jobs = store(tmp_path)
    job = jobs.add(b"picture", {}, 10, owner="a")
    assert jobs.get(job.id, "a").id == job.id
    for owner in ("b", ""):
        with pytest.raises(Refusal, match="no such job"):
            jobs.get(job.id, owner)


def test_two_services_do_not_share_a_folder(tmp_path):
    first = store(tmp_path)
    with pytest.raises(SettingsError, match="TUDSR_SERVE_STATE"):
        store(tmp_path)
    first.close()
    store(tmp_path)


def test_a_result_of_a_deleted_job_is_dropped(tmp_path):
    jobs = store(tmp_path)
    job = jobs.add(b"picture", {}, 10)
    with jobs.making(job.id) as out:
        jobs.delete(job.id)
        out.write(b"result")
    assert [p.name for p in tmp_path.iterdir() if p.suffix in (".in", ".out")] == []


def test_a_service_without_jobs_says_where_to_go(tmp_path):
    with pytest.raises(Refusal, match="/v1/upscale") as caught:
        store(tmp_path, limit=0).add(b"picture", {}, 10)
    assert (caught.value.status, caught.value.code) == (404, "no_jobs")


def test_a_job_that_kills_the_service_again_and_again_is_given_up(tmp_path):
    """Else it would after every restart."""
    first = store(tmp_path)
    kills, waits = first.add(b"picture", {}, 100), first.add(b"picture", {}, 100)
    for _ in range(2):
        first.running(kills.id)
        first.close()
        first = store(tmp_path)
        assert first.get(kills.id).state == "queued"
    first.running(kills.id)
    first.running(waits.id)
    first.running(waits.id, now=False)  # put off by an orderly end, which does not count
    first.close()
    last = store(tmp_path)
    assert last.get(kills.id).state == "failed"
    assert "killed 3 times" in last.get(kills.id).told["message"]
    assert [job.id for job in last.unfinished()] == [waits.id]


def test_jobs_of_a_former_version_are_read(tmp_path):
    old = sqlite3.connect(tmp_path / "jobs.db")
    old.execute(jobs._TABLE)
    old.execute("INSERT INTO job VALUES ('a', '', 'done', 1, ?, 7, '{}', '{}')", (time.time(),))
    old.commit()
    old.close()
    (tmp_path / "a.in").touch()
    assert store(tmp_path).get("a").state == "done"


def test_a_full_folder_empties_soon_where_jobs_are_at_work(tmp_path):
    small = store(tmp_path, limit_bytes=1000)
    job = small.add(bytes(300), {}, 600)
    with pytest.raises(Refusal) as caught:
        small.add(bytes(300), {}, 600)
    assert (caught.value.code, caught.value.retry_after_s) == ("jobs_full", 30)
    small.failed(job.id, "truncated", "it is cut off")
    small.add(bytes(300), {}, 600)


def test_a_job_that_can_never_fit_is_told_so(tmp_path):
    with pytest.raises(Refusal, match=r"over the limit of 1,000 for all jobs") as caught:
        store(tmp_path, limit_bytes=1000).add(bytes(300), {}, 800)
    assert (caught.value.code, caught.value.retry_after_s) == ("too_large", None)


def test_a_slow_disk_keeps_nobody_waiting_who_asks_for_a_state(tmp_path, monkeypatch):
    kept = store(tmp_path, limit_bytes=100_000)
    job, other = (kept.add(b"picture", {}, 100) for _ in range(2))
    begun, go_on = threading.Event(), threading.Event()

    def slowly(path, data):
        begun.set()
        assert go_on.wait(30)
        path.write_bytes(data)

    monkeypatch.setattr(jobs, "write_bytes", slowly)
    adding = threading.Thread(target=kept.add, args=(b"picture", {}, 100))
    adding.start()
    assert begun.wait(30)
    start = time.monotonic()
    with kept.making(job.id) as out:  # a result comes slowly, too
        out.write(b"result")
        assert kept.get(other.id).state == "queued"
    kept.done(job.id, {})
    assert time.monotonic() - start < 5
    go_on.set()
    adding.join(30)
    assert kept.get(job.id).state == "done" and len(kept.unfinished()) == 2
