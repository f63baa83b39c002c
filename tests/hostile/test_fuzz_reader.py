"""A few seconds of the fuzz target, always with the same inputs first."""

import random

import pytest

from tests.hostile.fuzz_reader import check, corpus, mutated


def test_the_corpus_itself_is_read():
    verdicts = [check(data) for data in corpus()]
    assert len(verdicts) > 30
    assert verdicts.count("read") > 0.8 * len(verdicts)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mutations_are_read_or_refused(tmp_path):
    seeds, rng = corpus(), random.Random(0)
    verdicts = {check(mutated(seeds, rng)) for _ in range(600)}
    assert {"read", "truncated", "not_an_image"} <= verdicts
