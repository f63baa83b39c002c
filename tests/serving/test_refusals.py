"""What the endpoint refuses: by which status, code and sentence, and before what reads it."""

import ast
import asyncio
from pathlib import Path

import numpy as np
import pytest

from serving.refusal import CODES, refusal_of
from tests.conftest import scene
from tests.serving.fakes import encoded, error_of, post, until
from tudsr.errors import ImageError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("body", "query", "status", "code"),
    [
        (b"this is text", "", 415, "not_an_image"),
        (b"http://127.0.0.1/secret.png", "", 415, "not_an_image"),
        (encoded(scene(0, 32))[:400], "", 422, "truncated"),
        (encoded(scene(0, 32)), "?scale=99", 422, "bad_setting"),
        (encoded(scene(0, 32)), "?scale=big", 422, "bad_setting"),
        (encoded(scene(0, 32)), "?scale=nan", 422, "bad_setting"),
        (encoded(scene(0, 32)), "?scale=2&scale=4", 422, "bad_setting"),
        (encoded(scene(0, 32)), "?sclae=2", 422, "bad_setting"),
        (encoded(scene(0, 32)), "?format=bmp", 422, "bad_setting"),
        (encoded(scene(0, 32)), "?scale=2&width=64", 422, "bad_setting"),
        (encoded(scene(0, 32)), "?width=5000", 422, "bad_setting"),
        (encoded(scene(0, 32)), "?fidelity=2", 422, "bad_setting"),
        (encoded(scene(0, 32)), "?deadline_s=1e9", 422, "bad_setting"),
        (encoded(np.zeros((1, 1, 3), np.uint8)), "", 422, "too_small"),
        (encoded(np.zeros((400, 400, 3), np.uint8)), "?scale=16", 413, "too_large"),
        (encoded(np.zeros((32, 32, 4), np.uint8)), "?format=jpeg", 422, "not_writable"),
        (bytes(500_000), "", 413, "too_large"),
        (b"", "", 422, "empty"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/upscale", "/v1/jobs"])
def test_bad_input_gets_a_code_and_a_sentence(inside, body, query, status, code, path):
    answer = post(inside, body, query, path)
    if path == "/v1/jobs" and code in ("truncated", "not_writable"):  # seen while it works
        where = answer.headers["Location"]
        until(lambda: inside.client.get(where).json()["state"] == "failed")
        answer = inside.client.get(f"{where}/result")
    assert error_of(answer) == (status, code)


def test_a_mistyped_parameter_names_its_neighbour(inside):
    told = post(inside, encoded(scene(0, 32)), "?sclae=2").json()["error"]["message"]
    assert "did you mean scale?" in told
    told = post(inside, encoded(scene(0, 32)), "?png_level=12").json()["error"]["message"]
    assert told == "png_level is '12': give a whole number from 0 to 9"


@pytest.mark.parametrize(
    "kind", ["application/vnd.bentoml+pickle", "application/json", "text/plain", "image"]
)
@pytest.mark.parametrize("path", ["/v1/upscale", "/v1/jobs", "/anything", "/schema.json"])
def test_bodies_that_are_no_pictures_are_refused_before_anything_reads_them(inside, kind, path):
    assert error_of(post(inside, b"\x80\x04N.", kind=kind, path=path)) == (415, "unsupported_type")


def test_a_body_without_a_declared_length_is_cut_off_at_the_limit(inside):
    sent, answers = [], []

    async def endless():
        sent.append(65536)
        return {"type": "http.request", "body": bytes(65536), "more_body": True}

    async def send(message):
        answers.append(message)

    headers = [(b"content-type", b"image/png"), (b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "POST", "path": "/v1/upscale", "headers": headers}
    scope |= {"query_string": b"", "raw_path": b"/v1/upscale", "server": ("here", 80)}
    asyncio.run(inside.client.app(scope, endless, send))
    assert answers[0]["status"] == 413
    assert sum(sent) <= inside.settings.max_upload_bytes + 65536


def test_other_addresses_and_methods(inside):
    get = inside.client.get
    assert error_of(get("/etc/passwd")) == (404, "not_found")
    assert error_of(get("/page/../settings.py")) == (404, "not_found")
    assert error_of(get("/page/%2e%2e%2fsettings.py")) == (404, "not_found")
    assert error_of(get("/v1/jobs/nosuch")) == (404, "no_such_job")
    answer = inside.client.delete("/v1/upscale")
    assert error_of(answer) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"
    for method in ("PROPFIND", "FOO"):
        assert error_of(inside.client.request(method, "/v1/upscale"))[1] == "method_not_allowed"
        assert error_of(inside.client.request(method, "/etc"))[1] == "not_found"


def _codes_of_image_errors() -> set[str]:
    trees = (ast.parse(path.read_text("utf-8")) for path in (ROOT / "tudsr").rglob("*.py"))
    calls = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Call)]
    raised = [n for n in calls if isinstance(n.func, ast.Name) and n.func.id == "ImageError"]
    assert all(isinstance(call.args[0], ast.Constant) for call in raised)
    return {call.args[0].value for call in raised}


def test_each_code_of_a_picture_that_fails_is_known_here():
    codes = _codes_of_image_errors()
    assert {"truncated", "no_space", "not_readable"} <= codes <= set(CODES)
    assert refusal_of(ImageError("no_space", "no room")).status == 507
    assert refusal_of(ImageError("not_readable", "cannot read")).status == 500


def test_a_full_disk_is_the_services_fault():
    with pytest.raises(OSError) as caught, Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")
    refused = refusal_of(caught.value)
    assert (refused.status, refused.code, refused.is_fault) == (507, "no_space", True)
