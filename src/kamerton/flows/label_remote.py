"""A teacher over HTTP: any endpoint that speaks OpenAI's API, our own server among them."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from kamerton.core.errors import DataError, InterruptedRun, MissingExtraError, SettingsError
from kamerton.core.events import Notice, Sink
from kamerton.core.files import hash_json
from kamerton.core.language import translated, translated_count
from kamerton.evaluation.refusals import is_refusal
from kamerton.flows.loopback import is_loopback
from kamerton.labelling.asking import Asking, Job, RequestFailed, TeacherFailed
from kamerton.labelling.budget import Budget, Prices
from kamerton.labelling.given_answers import GivenAnswers, Tokens
from kamerton.labelling.questions import most_tokens, request_body, verdict_of
from kamerton.labelling.settings import TeacherSettings
from kamerton.labelling.teacher import Verdict

__all__ = ["Endpoint", "RemoteTeacher", "is_address"]

_MOST_FAULTS = 20


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a teacher is asked.

    Attributes:
        url: Address, with or without `/v1`.
        model: Name of the model there.
        key: Sent as a bearer token; empty sends none.
        budget: Most money for the whole job, in the currency of the prices; None for no limit.
    """

    url: str
    model: str
    key: str = ""
    budget: float | None = None


def is_address(teacher: str) -> bool:
    """Tell an address from the name of a variant.

    Args:
        teacher: What `--teacher` gives.

    Returns:
        Whether it is asked over HTTP.
    """
    return teacher.startswith(("http://", "https://"))


class RemoteTeacher:
    """Labels texts by asking for the label.

    Args:
        endpoint: Where it is asked.
        labels: The labels to choose from.
        settings: How it is asked.
        answers: What it has answered already.
        sink: Receives what the job may cost.
        partners: Other teachers with the same texts, settings of money and budget; this one may
            be among them.

    Raises:
        SettingsError: If there is a budget of money and no price.
        MissingExtraError: If httpx is not installed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        labels: Sequence[str],
        settings: TeacherSettings,
        answers: GivenAnswers,
        sink: Sink,
        partners: Sequence["RemoteTeacher"] = (),
    ) -> None:
        try:
            import httpx  # noqa: F401
        except ImportError:
            raise MissingExtraError("httpx", "serve", "teachers over HTTP") from None
        self._prices = Prices(settings.price_prompt, settings.price_completion)
        if endpoint.budget is not None and self._prices == Prices():
            raise SettingsError(
                "--budget needs the prices of tokens",
                hint="--set teacher.price_prompt=0.15 --set teacher.price_completion=0.6, for a "
                "million tokens each; --set teacher.most_tokens=100000 needs no prices",
            )
        self._endpoint, self._labels, self._settings = endpoint, labels, settings
        self._answers, self._sink = answers, sink
        self._partners = partners
        self._budget: Budget | None = None
        self._of_partners = Tokens()
        self._num_labelled = self._num_faults = 0

    @property
    def labels(self) -> Sequence[str]:
        """The labels to choose from."""
        return self._labels

    @property
    def spent(self) -> Tokens:
        """What its answers have cost, with what was paid for them in earlier runs."""
        return Tokens() if self._budget is None else self._budget.spent - self._of_partners

    @property
    def cost(self) -> float | None:
        """The same in money; None where there are no prices."""
        return None if self._prices == Prices() else self._prices.cost(self.spent)

    @property
    def note(self) -> str:
        """What the job has cost so far."""
        limit = "" if self._endpoint.budget is None else f" / {self._endpoint.budget:g}"
        money = "" if self.cost is None else f", {self.cost:.4f}{limit}"
        return f", {translated_count(self.spent.total, 'token')}{money}"

    def judge(self, texts: Sequence[str]) -> Iterator[tuple[int, Verdict]]:
        """Label texts.

        Args:
            texts: What to label.

        Yields:
            Position and verdict; nothing for texts for which the budget is too small.

        Raises:
            InterruptedRun: If the teacher cannot be asked any more; the same command goes on.
            SettingsError: If it gives no log-probabilities, and one answer shall do.
            DataError: If none of its first answers is a label.
        """
        jobs = self._jobs(texts)
        others = [one for one in self._partners if one is not self]
        self._of_partners = sum((one.charged(texts) for one in others), Tokens())
        self._budget = Budget(
            self._prices,
            self._of_partners + self.charged(texts),
            self._settings.most_tokens,
            self._endpoint.budget,
        )
        self._say_most(jobs)
        found: dict[int, list[Mapping[str, Any]]] = {}
        with asyncio.Runner() as runner:
            asking = self._ask(jobs)
            try:
                while (pair := runner.run(_next(asking))) is not None:
                    job, answer = pair
                    if answer is None:
                        continue
                    self._ensure_logprob(answer)
                    own = found.setdefault(job.text, [])
                    own.append(answer)
                    if len(own) == self._settings.samples:
                        verdict = verdict_of(own, self._labels, is_refusal)
                        self._ensure_understood(verdict)
                        yield job.text, verdict
            except TeacherFailed as failure:
                raise InterruptedRun(
                    translated("the teacher cannot be asked: {reason}", reason=failure),
                    hint=translated("what it has answered is kept: the same command goes on"),
                ) from None
            finally:
                # A second Ctrl-C ends it in the middle of its own end.
                with suppress(RuntimeError):
                    runner.run(asking.aclose())

    def charged(self, texts: Sequence[str]) -> Tokens:
        """Tell what was paid for texts so far.

        Args:
            texts: What is labelled.

        Returns:
            The tokens.
        """
        return self._answers.charged({job.key for job in self._jobs(texts)})

    def _jobs(self, texts: Sequence[str]) -> list[Job]:
        samples = range(self._settings.samples)
        return [self._job(n, text, sample) for n, text in enumerate(texts) for sample in samples]

    def _job(self, number: int, text: str, sample: int) -> Job:
        body = request_body(text, self._labels, self._settings, self._endpoint.model, sample)
        return Job(number, sample, hash_json([self._endpoint.url, body]), body)

    def _say_most(self, jobs: Sequence[Job]) -> None:
        """Say before the first request what the job may cost at most."""
        missing = [job for job in jobs if self._answers.get(job.key) is None]
        if not missing:
            return
        most = sum((most_tokens(job.body, self._settings, 0) for job in missing), Tokens())
        text = translated(
            "{requests}, at most {tokens}",
            requests=translated_count(len(missing), "request"),
            tokens=translated_count(most.total, "token"),
        )
        if self._prices != Prices():
            cost = f"{self._prices.cost(most):.2f}"
            text = translated("{requests}, which cost at most {cost}", requests=text, cost=cost)
        self._sink(Notice(text))

    def _ensure_understood(self, verdict: Verdict) -> None:
        """Stop before the money is spent on a teacher that does not understand what it is asked."""
        self._num_labelled += not verdict.fault
        self._num_faults += bool(verdict.fault)
        if not self._num_labelled and self._num_faults >= _MOST_FAULTS:
            raise DataError(
                translated(
                    "the teacher named none of the labels in its first {count}, such as: {said}",
                    count=translated_count(self._num_faults, "answer"),
                    said=repr(verdict.said),
                ),
                hint=translated(
                    "try a larger model, other words with --set teacher.instruction=..., or --set "
                    "teacher.only_labels=true where the server is vLLM or kamerton serve"
                ),
            )

    def _ensure_logprob(self, answer: Mapping[str, Any]) -> None:
        if self._settings.samples == 1 and "text" in answer and answer["logprob"] is None:
            raise SettingsError(
                "the teacher's server gives no log-probabilities, so one answer has no confidence",
                hint="--set teacher.samples=5 asks five times: the confidence is the share that "
                "agrees",
            )

    async def _ask(
        self, jobs: Sequence[Job]
    ) -> AsyncGenerator[tuple[Job, Mapping[str, Any] | None], None]:
        import httpx

        from kamerton.serving.upstream import Upstream, UpstreamError

        url = self._endpoint.url.rstrip("/").removesuffix("/v1")
        # A proxy of the environment would take what is for this machine elsewhere.
        transport = httpx.AsyncHTTPTransport() if is_loopback(url) else None
        upstream = Upstream(
            url, self._endpoint.key, read_s=self._settings.timeout_s, transport=transport
        )

        async def post(body: Mapping[str, Any]) -> Any:
            try:
                return await upstream.post("/v1/chat/completions", body)
            except UpstreamError as error:
                raise RequestFailed(
                    error.status, error.message, error.retry_after_s, was_sent=error.was_sent
                ) from None

        assert self._budget is not None, "judge has made it"
        asking = Asking(post, self._settings, self._answers, self._budget)
        upstream.open()
        try:
            async with aclosing(asking.ask(jobs)) as found:
                async for pair in found:
                    yield pair
        finally:
            await upstream.close()


async def _next(
    asking: AsyncGenerator[tuple[Job, Mapping[str, Any] | None], None],
) -> tuple[Job, Mapping[str, Any] | None] | None:
    return await anext(asking, None)
