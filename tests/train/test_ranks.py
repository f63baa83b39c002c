"""Meeting the other ranks: what can go wrong is told apart."""

import accelerate
import pytest
import torch

from tudsr.errors import TrainingError
from tudsr.profile import RuntimeSettings
from tudsr.train.ranks import join


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NotImplementedError("no P2P"), "no P2P.*NCCL_P2P_DISABLE=1 NCCL_IB_DISABLE=1"),
        (RuntimeError("timed out"), "did not meet within 3 s.*timed out"),
    ],
)
def test_gpus_that_cannot_exchange_are_no_ranks_that_did_not_come(monkeypatch, error, words):
    def refused(**_):
        raise error

    monkeypatch.setattr(accelerate, "PartialState", refused)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match=words):
        join(RuntimeSettings(ranks_timeout_s=3), torch.device("cuda"))
