"""A goal of the benchmark is judged only where its runs agree."""

import copy

import pytest

from benchmarks.load import Shot, Target, fire, status_of
from benchmarks.serving_report import goals, table
from tests.conftest import scene
from tests.serving.fakes import encoded

_ROUND = {
    "saturation_per_s": 6.0,
    "tail": 0.9,
    "at_70": {"p50_s": 0.3, "p99_s": 1.0, "answered": 100},
    "at_300": {"goodput": 0.97, "p99_s": 6.0, "refused": 9, "refused_p99_s": 0.1,
               "failed_otherwise": 0, "client_s": 0.001},
    "at_stock_70": {"p50_s": 0.1, "p99_s": 0.5, "answered": 70},
}  # fmt: skip


def _service(*tails: float) -> dict:
    rounds = [{**copy.deepcopy(_ROUND), "tail": tail} for tail in tails]
    told = {"rounds": rounds, "memory_growth": 0.01, "around_model": [0.04, 0.041]}
    return told | {"cold_start_s": 9.0, "alone_s": {"64": 0.1, "128": 0.3}}


def _stock(*p99s: float) -> dict:
    told = _service(*p99s)
    told["rounds"] = [
        {"saturation_per_s": 5.0, "at_stock_70": {"p50_s": 0.2, "p99_s": p99, "answered": 70}}
        for p99 in p99s
    ]
    return told


def test_runs_that_spread_by_more_than_a_tenth_are_not_judged():
    tail = "p99/p50 at 70 % over the ideal queue's, ≤ 1.1"
    stock = _stock(1.0, 1.0, 1.0)
    assert goals(_service(0.9, 0.93, 0.98), stock)[tail]["met"] == "yes"
    assert goals(_service(1.2, 1.2, 1.25), stock)[tail]["met"] == "no"
    spread = goals(_service(0.8, 0.93, 1.06), stock)[tail]
    assert spread["figure"] == 0.93
    assert spread["met"] == "not judged, spread 14 %: 3 of 3 runs within"
    across = goals(_service(1.0, 1.05, 1.4), stock)[tail]
    assert across["met"] == "not judged, spread 19 %: 2 of 3 runs within"
    nothing = goals(_service(0.9, float("nan"), 0.9), stock)[tail]
    assert nothing["met"].startswith("not judged")


def test_the_table_has_both_services_on_stocks_arrivals():
    ours, stock = _service(0.9, 0.9), _stock(0.96, 1.04)
    told = {"machine": "M", "seconds": 3, "scale": 4, "ours": ours, "stock": stock}
    told |= {"model": "random weights", "bundle": None, "encode_s": {"png": {"s": 1, "MB": 2}}}
    text = table({**told, "goals": goals(ours, stock)})
    assert "| p99 at 70 % of stock's, s | 0.5 (0.5 to 0.5) | 1 (0.96 to 1.04) |" in text
    assert "| p99 at 70 % of stock's over stock's, ≤ 0.6 | 0.501 | yes |" in text
    assert "| goodput at 3 x ours | 0.97 (0.97 to 0.97) |  |" in text
    assert "| saturation, pictures a second | 6 (6 to 6) | 5 (5 to 5) |" in text
    assert "| memory growth under overload, ≤ 0.05 | 0.01 | yes |" in text
    assert text.startswith("M; random weights")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", 200),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", 0),
        (b"HTTP/1.1 429 No\r\nContent-Length: 0\r\nretry-after: 1\r\n\r\n", 429),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 200),
        (b"HTTP/1.1 200 OK\r\ncontent-le", 0),
        (b"", 0),
    ],
)
def test_an_answer_counts_once_all_of_it_is_there(answer, status):
    assert status_of(answer) == status


@pytest.mark.parametrize("form", [False, True])
def test_the_load_is_what_the_endpoint_takes(server, form):
    target = Target(f"{server.url}/v1/upscale?scale=2", {"a": encoded(scene(1, 24))}, form)
    assert {hit.status for hit in fire(target, [Shot(0.0, "a"), Shot(0.1, "a")])} == {200}
    broken = Target(f"{server.url}/v1/upscale?scale=2", {"a": b"no picture"}, form)
    assert fire(broken, [Shot(0.0, "a")])[0].status == 415
    nobody = Target("http://127.0.0.1:1/", {"a": b""}, form)
    assert fire(nobody, [Shot(0.0, "a")])[0].status == 0
