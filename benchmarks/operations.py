"""Operations of matrix products and convolutions, counted on any device, meta too.

torch's own ``FlopCounterMode`` follows modules by hooks, which fail where a network runs without a
graph on a picture that needs one, as whole-image losses do; its formulas alone are used here.
"""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Operations(TorchDispatchMode):
    """``with Operations() as counted: ...`` then ``counted.total``; a multiply-add counts two."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out
