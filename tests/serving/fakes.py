"""A model that does what a test needs, and pictures' bytes."""

import io
import threading
import time

import numpy as np
from PIL import Image

from serving.refusal import CODES


class FakeRuntime:
    """Gives tiles back as they are; notes batches; can be slow, or held until a gate opens."""

    size_multiple = 8
    side_by_side = 1

    @property
    def beside(self):
        return self

    def __init__(self, seconds: float = 0.0):
        self.seconds, self.gate, self.batches = seconds, threading.Event(), []
        self.gate.set()
        self.entered = False

    def restore(self, image, stage, full_precision=False):
        return self.restore_batch([image], stage)[0]

    def restore_batch(self, images, stage, full_precision=False):
        self.entered = True
        self.gate.wait(30)
        time.sleep(self.seconds * len(images))
        self.batches.append([(stage, image.shape, float(image.mean())) for image in images])
        return [image.copy() for image in images]


def encoded(pixels: np.ndarray, fmt: str = "PNG", **how) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, fmt, **how)
    return stream.getvalue()


def until(condition, seconds: float = 20) -> None:
    """Wait for something that happens on another thread."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def post(inside, data: bytes, query: str = "", path="/v1/upscale", kind="image/png", **how):
    how.setdefault("headers", {})["Content-Type"] = kind
    return inside.client.post(f"{path}{query}", content=data, **how)


def error_of(answer) -> tuple[int, str]:
    told = answer.json()["error"]
    assert CODES[told["code"]].status == answer.status_code
    assert len(told["message"]) > 20
    return answer.status_code, told["code"]
