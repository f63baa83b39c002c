"""The served endpoint over HTTP: picture in, picture out, and clear refusals."""

import io
import json
import urllib.error
import urllib.request
import uuid

import numpy as np
import pytest
from PIL import Image

from tests.conftest import scene
from tudsr.model.runtime import load_runtime
from tudsr.release.bundle import load_bundle
from tudsr.upscale.upscaler import Upscaler


def png(pixels: np.ndarray, fmt: str = "PNG", **how) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, fmt, **how)
    return buffer.getvalue()


def post(server, body: bytes, query: str = "", kind: str = "image/png"):
    """(status, headers, body)"""
    request = urllib.request.Request(
        f"{server.url}/v1/upscale{query}", data=body, headers={"Content-Type": kind}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def get(server, path: str) -> bytes:
    with urllib.request.urlopen(server.url + path, timeout=30) as answer:
        return answer.read()


def test_the_answer_is_what_the_library_makes(server, bundle):
    picture = scene(1, 40)
    status, headers, body = post(server, png(picture), "?scale=4")
    assert status == 200
    assert headers["Content-Type"] == "image/png"
    assert headers["X-Tudsr-Size"] == "160x160"
    upscaler = Upscaler(load_runtime(bundle), load_bundle(bundle).upscale)
    expected = upscaler.upscale(picture.astype(np.float32) / 255, 4)
    served = np.asarray(Image.open(io.BytesIO(body)), np.float32) / 255
    np.testing.assert_allclose(served, expected, atol=1.5 / 255)


def test_a_form_does_as_well_and_the_format_can_be_chosen(server):
    edge = uuid.uuid4().hex
    fields = {"scale": "2", "format": "webp"}
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'
        for k, v in fields.items()
    ]
    head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
    body = "".join(parts).encode() + head.encode() + b"Content-Type: image/png\r\n\r\n"
    body += png(scene(2, 24)) + f"\r\n--{edge}--\r\n".encode()
    status, headers, answer = post(server, body, kind=f"multipart/form-data; boundary={edge}")
    assert status == 200, answer
    assert headers["Content-Type"] == "image/webp"
    assert Image.open(io.BytesIO(answer)).size == (48, 48)


@pytest.mark.parametrize(
    ("body", "query", "status", "code"),
    [
        (b"this is text", "", 415, "not_an_image"),
        (png(scene(0, 32))[:400], "", 422, "truncated"),
        (png(scene(0, 32)), "?scale=99", 422, "bad_setting"),
        (png(scene(0, 32)), "?scale=big", 422, "bad_setting"),
        (png(scene(0, 32)), "?format=bmp", 422, "bad_setting"),
        (png(np.zeros((1, 1, 3), np.uint8)), "", 422, "too_small"),
        (png(np.zeros((2100, 2100, 3), np.uint8)), "?scale=16", 413, "too_large"),
        (b"", "", 422, "empty"),
    ],
)
def test_bad_input_gets_a_code_and_a_sentence(server, body, query, status, code):
    got, _, answer = post(server, body, query)
    error = json.loads(answer)["error"]
    assert (got, error["code"]) == (status, code)
    assert len(error["message"]) > 20


@pytest.mark.parametrize("kind", ["application/vnd.bentoml+pickle", "application/json"])
def test_bodies_that_are_no_pictures_are_refused_by_their_type(server, kind):
    status, _, answer = post(server, b"\x80\x04N.", kind=kind)
    assert status == 415
    assert json.loads(answer)["error"]["code"] == "not_an_image"


def test_it_says_which_model_answers(server, bundle):
    told = json.loads(get(server, "/v1/info"))
    assert told["bundle"] == load_bundle(bundle).bundle_hash
    assert told["data"] == "d" * 32


def test_health_metrics_and_page_are_there(server):
    assert get(server, "/livez") is not None
    assert b"bentoml_service_request" in get(server, "/metrics")
    assert b"Drop a picture here" in get(server, "/")
