"""The endpoint: picture in, picture out, and a code and a sentence for everything else."""

import asyncio
import io
import threading
import time

import numpy as np
import pytest
from PIL import Image
from prometheus_client import generate_latest

from tests.conftest import random_bundle, scene
from tests.serving.conftest import InProcess
from tests.serving.fakes import encoded, error_of, post, until
from tudsr.model.opening import open_runtime
from tudsr.release.bundle import load_bundle
from tudsr.upscale.chosen import ChosenModel
from tudsr.upscale.target import Target
from tudsr.upscale.upscaler import Upscaler


def test_the_answer_is_what_the_library_makes(inside, bundle):
    picture = scene(1, 40)
    answer = post(inside, encoded(picture), "?scale=4")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-Tudsr-Size"] == "160x160"
    assert load_bundle(bundle).bundle_hash[:12] in answer.headers["X-Tudsr-Model"]
    assert float(answer.headers["X-Tudsr-Compute-Seconds"]) > 0
    upscaler = Upscaler(open_runtime(bundle), load_bundle(bundle).upscale)
    expected = upscaler.upscale(picture.astype(np.float32) / 255, 4)
    served = np.asarray(Image.open(io.BytesIO(answer.content)), np.float32) / 255
    np.testing.assert_allclose(served, expected, atol=1.5 / 255)


def test_a_form_does_as_well(inside):
    files = {"image": ("a.png", encoded(scene(2, 24)), "image/png")}
    answer = inside.client.post(
        "/v1/upscale?format=webp", files=files, data={"scale": "2", "quality": "50"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "image/webp"
    assert Image.open(io.BytesIO(answer.content)).size == (48, 48)


@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "tiff", "avif"])
def test_the_answer_has_the_format_that_was_asked_for(inside, fmt):
    if fmt.upper() not in inside.client.get("/v1/info").json()["formats"]["written"]:
        assert error_of(post(inside, encoded(scene(3, 16)), f"?format={fmt}")) == (
            422, "not_writable",
        )  # fmt: skip
        return
    answer = post(inside, encoded(scene(3, 16)), f"?scale=2&format={fmt}")
    assert answer.headers["Content-Type"] == f"image/{fmt}"
    with Image.open(io.BytesIO(answer.content)) as made:
        assert (made.format, made.size) == (fmt.upper(), (32, 32))


def test_a_tile_that_was_not_finite_is_made_again_and_the_answer_says_so(inside, slow, monkeypatch):
    """One try in half precision gives NaN; fp32 is asked for once, for that tile alone."""
    precise, make = [], slow.restore_batch

    def overflowing(images, stage, full_precision=False):
        precise.append(full_precision)
        made = make(images, stage)
        return [np.full_like(made[0], np.nan)] if len(precise) == 1 else made

    monkeypatch.setattr(slow, "restore_batch", overflowing)
    answer = post(inside, encoded(scene(4, 16)), "?scale=4")
    assert answer.status_code == 200
    assert answer.headers["X-Tudsr-Remade-Tiles"] == "1"
    assert precise.count(True) == 1 and precise[:2] == [False, True]
    assert post(inside, encoded(scene(4, 16))).headers["X-Tudsr-Remade-Tiles"] == "0"
    assert "tudsr_remade_tiles_total" in generate_latest().decode()


def test_the_client_chooses_format_level_and_colour(inside):
    data = encoded(scene(3, 32))
    small, large = (
        post(inside, data, f"?scale=2&format=png&png_level={n}").content for n in (9, 0)
    )
    assert len(small) < len(large)
    assert (np.asarray(Image.open(io.BytesIO(small))) == np.asarray(
        Image.open(io.BytesIO(large)))).all()  # fmt: skip
    plain = post(inside, data, "?scale=2&colour=none").content
    assert (np.asarray(Image.open(io.BytesIO(plain))) != np.asarray(
        Image.open(io.BytesIO(small)))).any()  # fmt: skip


def test_metadata_say_what_made_it_as_on_the_command_line_and_go_on_request(inside, bundle):
    exif = Image.Exif()
    exif[315] = "An artist"
    data = encoded(scene(3, 32), exif=exif)
    kept = Image.open(io.BytesIO(post(inside, data, "?scale=2").content)).getexif()
    stripped = Image.open(io.BytesIO(post(inside, data, "?scale=2&strip=true").content)).getexif()
    assert (kept[315], 315 in stripped) == ("An artist", False)
    assert kept[305] == stripped[305] == ChosenModel(str(bundle), Target(scale=2)).signature()
    assert "x2, fidelity 1" in kept[305] and "seed None" in kept[305]
    changed = post(inside, data, "?longest=70&fidelity=0.5&colour=none").content
    expected = ChosenModel(str(bundle), Target(longest=70), 0.5, changes={"colour": "none"})
    assert Image.open(io.BytesIO(changed)).getexif()[305] == expected.signature()
    assert error_of(post(inside, data, "?strip=perhaps")) == (422, "bad_setting")


def test_16_bits_in_are_16_bits_out_and_no_8_between(inside):
    ramp = np.linspace(20_000, 24_000, 48 * 48).reshape(48, 48).astype(np.uint16)
    stream = io.BytesIO()
    Image.fromarray(ramp).save(stream, "PNG")
    made = Image.open(io.BytesIO(post(inside, stream.getvalue(), "?scale=2").content))
    assert made.mode == "I;16"
    assert len(np.unique(np.asarray(made))) > 1000, "levels of 8 bits are 16 here"


@pytest.mark.parametrize(
    ("query", "size"),
    [("scale=1.5", (60, 36)), ("width=100", (100, 60)), ("height=90", (150, 90)),
     ("longest=77", (77, 46)), ("width=100&height=48", (80, 48)), ("megapixels=0.01", (129, 77))],
)  # fmt: skip
def test_any_size_can_be_asked_for(inside, query, size):
    answer = post(inside, encoded(scene(3, 40)[:24]), f"?{query}")
    assert Image.open(io.BytesIO(answer.content)).size == size
    assert answer.headers["X-Tudsr-Size"] == f"{size[0]}x{size[1]}"


def test_at_fidelity_0_the_picture_itself_is_kept(inside):
    data, far = encoded(scene(3, 40)), {}
    for fidelity in (0, 1):
        result = Image.open(io.BytesIO(post(inside, data, f"?scale=2&fidelity={fidelity}").content))
        back = np.asarray(result.resize((40, 40), Image.Resampling.BICUBIC), float)
        far[fidelity] = np.abs(back - scene(3, 40)).mean()
    assert far[0] < far[1]


def test_a_deadline_answers_in_time_and_stops_the_work(inside, slow):
    slow.seconds = 0.05
    start = time.monotonic()
    answer = post(inside, encoded(scene(5, 200)), "?scale=4&deadline_s=0.3")
    assert error_of(answer) == (504, "deadline")
    assert time.monotonic() - start < 1.5
    until(lambda: not inside.engine.scheduler._tickets())
    assert len(slow.batches) < 20


def test_a_full_queue_answers_429_with_the_time_to_wait(inside, slow, monkeypatch):
    slow.gate.clear()
    answers = []
    monkeypatch.setattr(inside.engine.speed, "_seen", (1.0, 2e-4))

    def ask():
        answers.append(post(inside, encoded(scene(5, 100)), "?scale=2&deadline_s=20"))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    until(lambda: len(answers) + len(inside.engine.scheduler._tickets()) == 12)
    refused = list(answers)
    early = asyncio.run(_without_a_body(inside))
    slow.gate.set()
    for thread in threads:
        thread.join()
    assert 0 < len(refused) < 12
    assert early == 429, "refused by its head alone"
    for answer in refused:
        assert error_of(answer) == (429, "queue_full")
        assert 1 <= int(answer.headers["Retry-After"]) <= 40
    assert sum(a.status_code == 200 for a in answers) == 12 - len(refused)


async def _without_a_body(inside) -> int:
    """The status of a request whose body must not be asked for."""
    statuses: list[int] = []

    async def receive():
        raise AssertionError("the body was read")

    async def send(message):
        statuses.append(message.get("status", 0))

    headers = [(b"content-type", b"image/png"), (b"content-length", b"100000")]
    scope = {"type": "http", "method": "POST", "path": "/v1/upscale", "headers": headers}
    scope |= {"query_string": b"", "raw_path": b"/v1/upscale", "server": ("here", 80)}
    await inside.client.app(scope, receive, send)
    return statuses[0]


def test_with_tokens_only_their_bearers_get_in(bundle, tmp_path):
    (tmp_path / "tokens").write_text("second-token\n")
    guarded = InProcess(
        bundle, tmp_path / "s", tokens="first-token", tokens_file=tmp_path / "tokens"
    )
    try:
        get = guarded.client.get
        refused = get("/v1/info")
        assert error_of(refused) == (401, "unauthorised")
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        for wrong in ("Bearer nonsense", "Basic first-token", "Bearer", "Bearer first-tokenx"):
            assert get("/v1/info", headers={"Authorization": wrong}).status_code == 401
        first, second = ({"Authorization": f"Bearer {name}-token"} for name in ("first", "second"))
        assert get("/v1/info", headers=first).status_code == 200
        assert get("/").status_code == 200
        assert guarded.settings.model_dump_json().count("first-token") == 0
        job = post(guarded, encoded(scene(1, 24)), path="/v1/jobs", headers=dict(first))
        where = job.headers["Location"]
        assert get(where, headers=first).status_code == 200
        assert get(where, headers=second).status_code == 404
    finally:
        guarded.close()


def test_other_origins_may_call_only_where_that_is_set(inside, bundle, tmp_path):
    asked = {"Origin": "https://a.example"}
    assert "access-control-allow-origin" not in inside.client.get("/v1/info", headers=asked).headers
    opened = InProcess(bundle, tmp_path, cors_origins="https://a.example", tokens="token")
    try:
        refused = opened.client.post("/v1/jobs", content=b"x", headers=asked)
        assert error_of(refused) == (401, "unauthorised")
        assert refused.headers["access-control-allow-origin"] == "https://a.example", "it may read"
        asked["Authorization"] = "Bearer token"
        answer = opened.client.get("/v1/info", headers=asked)
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        other = opened.client.get("/v1/info", headers=asked | {"Origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers
    finally:
        opened.close()


def test_it_says_which_model_answers_and_what_it_takes(inside, bundle):
    told = inside.client.get("/v1/info").json()
    assert told["bundle"] == load_bundle(bundle).bundle_hash
    assert (told["data"], told["base"]) == ("d" * 32, "b" * 64)
    assert told["limits"]["output_px"] == 2_000_000
    assert told["parameters"]["scale"]["maximum"] == 16


def test_its_memory_bounds_tiles_and_what_cannot_be_made_in_parts(tmp_path):
    """The same bundle and budget as on the command line give the same tiles."""
    bundle = random_bundle(tmp_path / "b", tile_px=544, overlap_px=80)
    small = InProcess(bundle, tmp_path / "state", memory=128)
    try:
        made = Image.open(io.BytesIO(post(small, encoded(scene(3, 32)), "?scale=2").content))
        chosen = ChosenModel(str(bundle), Target(scale=2), memory_bytes=128 * 2**20)
        assert "tile 256/64" in made.getexif()[305]
        assert made.getexif()[305] == chosen.signature()
        refused = post(small, encoded(scene(3, 736)), "?scale=4&format=webp")
        assert error_of(refused) == (413, "too_large")
        assert "TUDSR_SERVE_MEMORY" in refused.json()["error"]["message"]
        assert small.client.get("/v1/info").json()["limits"]["memory_bytes"] == 128 * 2**20
    finally:
        small.close()
