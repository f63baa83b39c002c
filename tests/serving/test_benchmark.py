"""A goal of the benchmark is judged only where its runs agree."""

import copy

from benchmarks.serving_report import goals, table

_ROUND = {
    "tail": 0.9,
    "at_70": {"p50_s": 0.3, "p99_s": 1.0, "answered": 100},
    "at_300": {"goodput": 0.97, "p99_s": 6.0, "refused": 9, "refused_p99_s": 0.1,
               "failed_otherwise": 0},
}  # fmt: skip


def _service(*tails: float) -> dict:
    rounds = [{**copy.deepcopy(_ROUND), "tail": tail} for tail in tails]
    told = {"rounds": rounds, "memory_growth": 0.01, "around_model": [0.04, 0.041]}
    told |= {"saturation_per_s": 6.0, "cold_start_s": 9.0, "alone_s": {"64": 0.1, "128": 0.3}}
    return told | {"at_own_70": {"p50_s": 0.2, "p99_s": 0.8, "answered": 90}}


def test_runs_that_spread_by_more_than_a_tenth_are_not_judged():
    tail = "p99/p50 at 70 % over the ideal queue's, ≤ 1.1"
    stock = _service(0.5)
    assert goals(_service(0.9, 0.93, 0.98), stock)[tail]["met"] == "yes"
    assert goals(_service(1.2, 1.2, 1.25), stock)[tail]["met"] == "no"
    spread = goals(_service(0.9, 0.93, 1.026), stock)[tail]
    assert (spread["figure"], spread["met"]) == (0.93, "not judged, spread 14 %")
    nothing = goals(_service(0.9, float("nan"), 0.9), stock)[tail]
    assert nothing["met"].startswith("not judged")


def test_the_table_has_both_services_at_their_own_load():
    ours, stock = _service(0.9, 0.9), _service(0.5)
    told = {"machine": "M", "seconds": 3, "scale": 4, "ours": ours, "stock": stock}
    text = table({**told, "goals": goals(ours, stock), "encode_s": {"png": {"s": 1, "MB": 2}}})
    assert "Stock at 70 % of its own saturation answers 90; p50 0.2 s, p99 0.8 s." in text
    assert "| saturation, pictures a second | 6 | 6 |" in text
    assert "| memory growth under overload, ≤ 0.05 | 0.01 | yes |" in text
