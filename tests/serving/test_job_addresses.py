"""Jobs over HTTP: made, watched, fetched, deleted; how the store keeps them is test_jobs.py's."""

import io

from PIL import Image

from tests.conftest import scene
from tests.serving.fakes import encoded, error_of, post, until


def test_a_job_is_made_watched_fetched_and_deleted(inside, slow):
    slow.gate.clear()
    made = post(inside, encoded(scene(4, 32)), "?scale=2&format=webp", "/v1/jobs")
    assert made.status_code == 202
    where = made.headers["Location"]
    get = inside.client.get
    assert get(where).json()["state"] in ("queued", "running")
    early = get(f"{where}/result")
    assert error_of(early) == (409, "not_finished")
    assert early.headers["Retry-After"] == "1"
    slow.gate.set()
    until(lambda: get(where).json()["state"] == "done")
    told = get(where).json()
    assert (told["width"], told["height"], told["progress"]) == (64, 64, 1.0)
    result = get(told["result"])
    assert result.headers["Content-Type"] == "image/webp"
    assert result.headers["X-Tudsr-Size"] == "64x64"
    assert Image.open(io.BytesIO(result.content)).size == (64, 64)
    for wrong in ("bytes=999999999-", "furlongs=1-2"):
        ranged = get(told["result"], headers={"Range": wrong})
        assert (ranged.status_code, ranged.content) == (200, result.content)
    assert inside.client.delete(where).status_code == 204
    assert error_of(get(where)) == (404, "no_such_job")


def test_a_deleted_job_stops_before_its_next_tile(inside, slow):
    slow.gate.clear()
    where = post(inside, encoded(scene(4, 96)), "?scale=4", "/v1/jobs").headers["Location"]
    until(lambda: slow.entered)
    inside.client.delete(where)
    slow.gate.set()
    until(lambda: not inside.engine.scheduler._tickets())
    assert len(slow.batches) == 1


def test_a_failed_job_says_why_under_its_own_status(inside):
    broken = encoded(scene(0, 32))[:400]
    where = post(inside, broken, "", "/v1/jobs").headers["Location"]
    until(lambda: inside.client.get(where).json()["state"] == "failed")
    assert inside.client.get(where).json()["error"]["code"] == "truncated"
    assert error_of(inside.client.get(f"{where}/result")) == (422, "truncated")
