"""Chat users under test: paced clients of the gateway that notice every failed request and every cut stream."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise

import httpx

from local.stack_state import MASTER_KEY, secret
from tests.e2e.line import Line
from tests.e2e.slow_server import LONG_TOKENS

THINK_SECONDS = 0.5
"""Between two requests of one client: the machine has two cores for them and the cluster."""
SLOW_CLIENTS = 2
"""How many ask the slow models, and nothing else: more would fill the slots of one that computes on a CPU."""
SLOW_PAUSES = 4


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole answer; times are on the monotonic clock."""

    model: str
    api_base: str
    """The backend that gave it, as the gateway tells."""
    stream: bool
    asked_at: float
    at: float

    @property
    def seconds(self) -> float:
        return self.at - self.asked_at


@dataclass
class Load:
    """What clients saw: every request ends up in `answers` or, told in words, in `lost` or `cut`."""

    url: str
    key: str
    models: Sequence[str]
    """May be exchanged meanwhile."""
    think_seconds: float = THINK_SECONDS
    slow: Collection[str] = ()
    """Those of `models` that are left to a few clients, since a long answer keeps the others from asking."""
    answers: list[Answer] = field(default_factory=list[Answer])
    lost: list[str] = field(default_factory=list[str])
    """Requests that failed, and streams that began and did not end with `[DONE]`."""
    stop: bool = False

    @property
    def answered(self) -> Counter[str]:
        """Whole answers, by the address of the backend that gave them."""
        return Counter(answer.api_base for answer in self.answers)

    @property
    def away_seconds(self) -> float:
        """The longest time without a whole answer, from the first one on."""
        return max((later.at - earlier.at for earlier, later in pairwise(self.answers)), default=0.0)

    async def run(self, clients: int, seconds: float) -> None:
        """So many clients for at most so long: each third one asks for whole answers, the others stream.

        Every second one has a connection of its own for each request.
        """
        end = time.monotonic() + seconds
        async with httpx.AsyncClient(
            timeout=120, trust_env=False, limits=httpx.Limits(max_connections=clients)
        ) as kept:
            await asyncio.gather(*(self._client(number, kept, end) for number in range(clients)))

    async def _client(self, number: int, kept: httpx.AsyncClient, end: float) -> None:
        await asyncio.sleep(number * self.think_seconds / 8)
        for turn in count(number):
            if self.stop or time.monotonic() > end:
                return
            slow = bool(self.slow) and number < SLOW_CLIENTS
            models = [model for model in self.models if (model in self.slow) == slow]
            if models:
                stream = (number + 1) % 3 != 0
                await self._ask(kept, models[turn % len(models)], stream=stream, fresh=number % 2 == 0)
            # a slow model's tokens cost the machine more
            await asyncio.sleep(self.think_seconds * (SLOW_PAUSES if slow else 1))

    async def _ask(self, client: httpx.AsyncClient, model: str, *, stream: bool, fresh: bool) -> None:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "Count from one to ten: one, two, three,"}],
            "max_tokens": LONG_TOKENS,
            "stream": stream,
        }
        headers = {"Authorization": f"Bearer {self.key}", **({"Connection": "close"} if fresh else {})}
        asked_at = time.monotonic()
        what = f"{time.strftime('%H:%M:%S')} {model} {'stream' if stream else 'answer'}"
        try:
            async with client.stream("POST", f"{self.url}/chat/completions", json=body, headers=headers) as answer:
                text = (await answer.aread()).decode()
        except httpx.HTTPError as error:
            self.lost.append(f"{what} after {time.monotonic() - asked_at:.1f} s: {error!r}")
            return
        if not answer.is_success:
            self.lost.append(f"{what}: HTTP {answer.status_code}: {text[:300]}")
        elif not (text.rstrip().endswith("data: [DONE]") if stream else _content(text)):
            self.lost.append(f"{what}: cut: {text[-200:]}")
        else:
            base = answer.headers.get("x-litellm-model-api-base", "")
            self.answers.append(
                Answer(model=model, api_base=base, stream=stream, asked_at=asked_at, at=time.monotonic())
            )


@contextmanager
def under_load(
    line: Line,
    *models: str,
    slow: Collection[str] = (),
    clients: int = 8,
    seconds: float = 300,
    think_seconds: float = THINK_SECONDS,
) -> Generator[Load]:
    """Paced clients of the gateway beside what the block does; they end with it, or after so long."""
    url = f"http://127.0.0.1:{line.instance.gateway_port}/v1"
    load = Load(url, secret(line.instance, MASTER_KEY), list(models), think_seconds, slow)
    users = threading.Thread(target=lambda: asyncio.run(load.run(clients, seconds)))
    users.start()
    try:
        yield load
    finally:
        load.stop = True
        users.join()


def _content(text: str) -> str:
    try:
        return json.loads(text)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):  # then it is no whole answer
        return ""
