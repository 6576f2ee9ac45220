"""One answer while it is written: its tokens become text, and something ends it."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from kamerton.core.errors import ModelError
from kamerton.core.requests import AnswerUpdate, TokenLogprob
from kamerton.data.rendering.answers import Written
from kamerton.inference.calls import CallReader
from kamerton.inference.detokenise import PlainStream, TextStream
from kamerton.inference.grammar import GrammarState
from kamerton.inference.held_variants import LoadedVariant
from kamerton.inference.logprobs import prompt_logprobs
from kamerton.inference.request_state import RequestState
from kamerton.inference.reweighting import Reweighter
from kamerton.models.heads import Head

__all__ = ["Answer"]


@dataclass(eq=False)
class Answer:
    """An answer that is being written.

    Attributes:
        state: What is asked and how far it is.
        variant: Who answers.
        random: Its own random numbers.
        text: Turns its tokens into text.
        rules: What changes the logits of its tokens, in this order.
        calls: Reads the functions that it calls; None where it may call none.
        logprobs: Those of its tokens at temperature 1, as training computes them; None where
            nobody asks for them, which saves a softmax a token.
        prompt_logprobs: Those of the prompt's tokens, as far as it is read.
        hidden_sum: [E], the sum of the prompt's last hidden states, as far as it is read.
        failure: Why no token could be chosen.
    """

    state: RequestState
    variant: LoadedVariant
    random: torch.Generator
    text: TextStream | PlainStream
    rules: tuple[Reweighter | GrammarState, ...] = ()
    calls: CallReader | None = None
    logprobs: list[float] | None = None
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    hidden_sum: Tensor | None = None
    failure: ModelError | None = None

    def read_prompt(self, hidden: Tensor, head: Head) -> None:
        """Keep what is asked of the prompt.

        Args:
            hidden: [n, E] hidden states of the tokens that are computed now.
            head: Of the variant.
        """
        state = self.state
        if state.request.embeds and state.num_computed < state.num_prompt:
            more = hidden.float().sum(0)
            self.hidden_sum = more if self.hidden_sum is None else self.hidden_sum + more
        if not state.request.wants_prompt_logprobs:
            return
        tokenizer, num_top = self.variant.renderer.tokenizer, state.request.num_top_logprobs
        assert num_top is not None, "only asked where log-probabilities are"
        if not state.num_computed:
            self.prompt_logprobs.append(TokenLogprob(tokenizer.decode([state.ids[0]]), None))
        after = state.num_computed + 1
        tokens = state.ids[after : min(after + len(hidden), state.num_prompt)]
        self.prompt_logprobs += prompt_logprobs(
            head, hidden[: len(tokens)], tokens, num_top, tokenizer
        )

    def add(self, token: int | ModelError, logprobs: tuple[TokenLogprob, ...]) -> AnswerUpdate:
        """Take in what was chosen.

        Args:
            token: The next token, or why there is none.
            logprobs: What is reported of it.

        Returns:
            What it adds to the answer.
        """
        if isinstance(token, ModelError):
            self.failure = token
            update = AnswerUpdate(self.state.request.id, error=token.message)
        elif not self.state.num_free:
            update = self._only_read()
        else:
            update = self._advance(token, logprobs)
        return self.calls.take(update) if self.calls else update

    def _advance(self, token: int, logprobs: tuple[TokenLogprob, ...]) -> AnswerUpdate:
        """Add a token."""
        state = self.state
        state.ids.append(token)
        for rule in self.rules:
            rule.add(token)
        if token in self.variant.renderer.stop_ids:
            return self._update(logprobs, self.text.finish(), "stop")
        written = self.text.add(token)
        if self.text.stopped:
            return self._update(logprobs, written, "stop")
        for rule in self.rules:
            if isinstance(rule, GrammarState) and rule.is_over:
                if rule.error:
                    problem = f"the grammar is too complex: {rule.error}"
                    update = self._update(logprobs, Written())
                    return replace(update, error=problem, is_client_error=True)
                return self._update(logprobs, _joined(written, self.text.finish()), "stop")
        if state.num_free <= 0:
            last = self.text.finish(ended=False)
            return self._update(logprobs, _joined(written, last), "length")
        return self._update(logprobs, written)

    def _update(
        self, logprobs: tuple[TokenLogprob, ...], written: Written, finish_reason: str | None = None
    ) -> AnswerUpdate:
        state = self.state
        update = AnswerUpdate(
            state.request.id,
            written.text,
            written.reasoning,
            finish_reason,
            num_prompt_tokens=state.num_prompt,
            num_tokens=state.num_written,
            logprobs=logprobs,
        )
        return (
            self._with_prompt(update) if state.request.echo and state.num_written == 1 else update
        )

    def _with_prompt(self, update: AnswerUpdate) -> AnswerUpdate:
        """Put the prompt before the first piece of an answer."""
        text = self.state.request.prompt
        if not isinstance(text, str):
            text = self.variant.renderer.tokenizer.decode(list(text))
        logprobs = (*self.prompt_logprobs, *update.logprobs)
        return replace(update, text=text + update.text, logprobs=logprobs)

    def _only_read(self) -> AnswerUpdate:
        """End a request that wants no token."""
        request = self.state.request
        end = AnswerUpdate(
            request.id, finish_reason="length", num_prompt_tokens=self.state.num_prompt
        )
        if self.hidden_sum is not None:
            # The direction of a sum is that of the mean.
            vector = torch.nn.functional.normalize(self.hidden_sum, dim=0)
            end = replace(end, embedding=tuple(vector.tolist()))
        return self._with_prompt(end) if request.echo else end


def _joined(written: Written, last: Written) -> Written:
    return Written(written.text + last.text, written.reasoning + last.reasoning)
