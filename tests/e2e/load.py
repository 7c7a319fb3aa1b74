"""Chat users under test: paced clients of the gateway that notice every failed request and every cut stream."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise

import httpx

THINK_SECONDS = 0.5
"""Between two requests of one client: the machine has two cores for them and the cluster."""


@dataclass
class Load:
    """What clients saw: every request ends up in `answered` or, told in words, in `lost`."""

    url: str
    key: str
    models: Sequence[str]
    answered: Counter[str] = field(default_factory=Counter[str])
    """Whole answers, by the address of the backend that gave them."""
    lost: list[str] = field(default_factory=list[str])
    answered_at: list[float] = field(default_factory=list[float])
    """When each whole answer was there, on the monotonic clock."""
    stop: bool = False

    @property
    def away_seconds(self) -> float:
        """The longest time without a whole answer, from the first one on."""
        return max((later - earlier for earlier, later in pairwise(self.answered_at)), default=0.0)

    async def run(self, clients: int, seconds: float) -> None:
        """So many clients, every second one with a connection of its own for each request, for at most so long."""
        end = time.monotonic() + seconds
        async with httpx.AsyncClient(timeout=60, trust_env=False, limits=httpx.Limits(max_connections=clients)) as kept:
            await asyncio.gather(*(self._client(number, kept, end) for number in range(clients)))

    async def _client(self, number: int, kept: httpx.AsyncClient, end: float) -> None:
        await asyncio.sleep(number * THINK_SECONDS / 8)
        # three of four requests are streams, as chat users' are
        for turn, model in enumerate(cycle(self._order(number))):
            if self.stop or time.monotonic() > end:
                return
            await self._ask(kept, model, stream=(number + turn) % 4 != 0, fresh=number % 2 == 0)
            await asyncio.sleep(THINK_SECONDS)

    def _order(self, number: int) -> list[str]:
        """All models, each client beginning with another."""
        first = number % len(self.models)
        return [*self.models[first:], *self.models[:first]]

    async def _ask(self, client: httpx.AsyncClient, model: str, *, stream: bool, fresh: bool) -> None:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "Count from one to ten: one, two, three,"}],
            "max_tokens": 64,
            "stream": stream,
        }
        headers = {"Authorization": f"Bearer {self.key}", **({"Connection": "close"} if fresh else {})}
        what = f"{model} {'stream' if stream else 'answer'}"
        try:
            async with client.stream("POST", f"{self.url}/chat/completions", json=body, headers=headers) as answer:
                text = (await answer.aread()).decode()
        except httpx.HTTPError as error:
            self.lost.append(f"{what}: {error!r}")
            return
        if not answer.is_success:
            self.lost.append(f"{what}: HTTP {answer.status_code}: {text[:300]}")
        elif not (text.rstrip().endswith("data: [DONE]") if stream else _content(text)):
            self.lost.append(f"{what}: cut: {text[-200:]}")
        else:
            self.answered[answer.headers.get("x-litellm-model-api-base", "")] += 1
            self.answered_at.append(time.monotonic())


def _content(text: str) -> str:
    return json.loads(text)["choices"][0]["message"]["content"]
