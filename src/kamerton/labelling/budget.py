"""A budget of tokens and money that is never exceeded: what may be spent is reserved first."""

import asyncio
from dataclasses import dataclass

from kamerton.labelling.given_answers import Tokens

__all__ = ["Budget", "Prices"]

_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Prices:
    """What tokens cost.

    Attributes:
        prompt: For a million tokens that are read.
        completion: For a million tokens that are written.
    """

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, tokens: Tokens) -> float:
        """Give what tokens cost, in the currency of the prices.

        Args:
            tokens: Read and written.

        Returns:
            The cost.
        """
        return (tokens.prompt * self.prompt + tokens.completion * self.completion) / _MILLION


class Budget:
    """Lets requests through while the most that they may cost is left.

    Args:
        prices: What tokens cost.
        spent: What the job has cost so far.
        most_tokens: Most tokens of the whole job; 0 for no limit.
        most_cost: Most money for the whole job; None for no limit.
    """

    def __init__(
        self, prices: Prices, spent: Tokens, most_tokens: int = 0, most_cost: float | None = None
    ) -> None:
        self.prices = prices
        self._most_tokens, self._most_cost = most_tokens, most_cost
        self._spent, self._reserved, self._num_open = spent, Tokens(), 0
        self._changed = asyncio.Condition()

    @property
    def spent(self) -> Tokens:
        """What was spent for sure or may have been."""
        return self._spent

    @property
    def cost(self) -> float:
        """The same in money."""
        return self.prices.cost(self._spent)

    async def reserve(self, most: Tokens) -> bool:
        """Reserve for a request, waiting for others that may cost less than they reserved.

        Args:
            most: The most that it may cost.

        Returns:
            Whether it may be sent; False where too little is left.
        """
        async with self._changed:
            while not self._fits(most):
                if not self._num_open:
                    return False
                await self._changed.wait()
            self._reserved += most
            self._num_open += 1
            return True

    async def settle(self, most: Tokens, used: Tokens) -> None:
        """End a reservation.

        Args:
            most: What was reserved.
            used: What the request cost.
        """
        async with self._changed:
            self._reserved -= most
            self._spent += used
            self._num_open -= 1
            self._changed.notify_all()

    def _fits(self, most: Tokens) -> bool:
        total = self._spent + self._reserved + most
        if self._most_tokens and total.total > self._most_tokens:
            return False
        return self._most_cost is None or self.prices.cost(total) <= self._most_cost
