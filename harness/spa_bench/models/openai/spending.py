"""Tokens and dollars: what calls took, and whether one more may be sent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spa_bench.models.base import Spending
from spa_bench.models.openai.options import OpenAIOptions

MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The tokens of one answered call, as the server counts them."""

    prompt: int
    new: int
    cached: int = 0  # of `prompt`, those that the server had cached


class Ledger:
    """Counts what calls take, and holds back what those under way may cost."""

    def __init__(self, options: OpenAIOptions, earlier: Spending | None = None):
        """`earlier`: what earlier parts of the runs cost. It counts against the budget; `spent` does not include it."""
        self._in, self._out, self._most = options.price_in, options.price_out, options.max_cost
        self._cached = options.price_in if options.price_cached is None else options.price_cached
        self.spent = Spending(cost=None if self._in is None else 0.0)
        self._before = (earlier or Spending()).cost or 0.0
        self._held = 0.0  # dollars
        self._under_way = 0  # calls

    def cost(self, usage: Usage) -> float:
        """Dollars for `usage`; 0 where there are no prices."""
        if self._in is None or self._out is None or self._cached is None:
            return 0.0
        plain = usage.prompt - usage.cached
        return (plain * self._in + usage.cached * self._cached + usage.new * self._out) / MILLION

    def hold(self, most: Usage) -> bool:
        """Hold back what a call can cost at the most, before it is sent; False where the budget has not so much left."""
        cost = self.cost(most)
        if not self.lasts(most, 1):
            return False
        self._held += cost
        self._under_way += 1
        return True

    @property
    def total(self) -> float:
        """Dollars so far, those of earlier parts included, without what is held back."""
        return self._before + (self.spent.cost or 0.0)

    def lasts(self, most: Usage, calls: int) -> bool:
        """Whether the budget has enough left for `calls` calls, at the most that each can cost."""
        return self._most is None or self.total + self._held + calls * self.cost(most) <= self._most

    @property
    def idle(self) -> bool:
        """Whether nothing is held back: no call is under way that could turn out cheaper than feared."""
        return not self._under_way

    def release(self, most: Usage) -> None:
        """Give back what `hold` held, for a call that was not billed."""
        self._under_way -= 1
        self._held = self._held - self.cost(most) if self._under_way else 0.0

    def answered(self, most: Usage, usage: Usage) -> None:
        """Count a call that was answered."""
        self.release(most)
        s = self.spent
        self.spent = replace(
            s,
            calls=s.calls + 1,
            prompt_tokens=s.prompt_tokens + usage.prompt,
            cached_tokens=s.cached_tokens + usage.cached,
            new_tokens=s.new_tokens + usage.new,
            cost=None if s.cost is None else s.cost + self.cost(usage),
        )

    def lost(self, most: Usage) -> None:
        """Count a call that was sent and whose answer did not come whole, at the most it can have cost."""
        self.release(most)
        s = self.spent
        self.spent = replace(s, lost=s.lost + 1, cost=None if s.cost is None else s.cost + self.cost(most))
