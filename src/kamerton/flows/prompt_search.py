"""`kamerton prompt search`: which instruction and which worked examples do best, measured honestly.

Candidates are asked questions of the training part, by successive halving. The winner becomes a
variant without a trained part, and is measured on what the search did not see.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from kamerton.adapters.catalogue import NoAdapterSettings
from kamerton.advisor.instructions import instruction, task_sentence
from kamerton.advisor.kinds import kind_of_task
from kamerton.core.errors import DataError, RenderingError, SettingsError
from kamerton.core.events import Notice, Progress, Sink
from kamerton.core.files import write_atomically
from kamerton.core.language import translated
from kamerton.core.protocols import Engine
from kamerton.core.seeds import unit_interval
from kamerton.core.settings import toml_value
from kamerton.data.audit.languages import language_guesser
from kamerton.data.examples import ChatExample, ClassificationExample, Example
from kamerton.data.identity import question_hash, question_text
from kamerton.evaluation.items import Item, make_items
from kamerton.flows.candidates import Asked, Candidate, Measurable
from kamerton.flows.prepare import make_prompt, read_examples
from kamerton.flows.recipe import PromptSettings, Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.models.base import Base
from kamerton.models.context import longest_row
from kamerton.models.load import ensure_here, load_base
from kamerton.prompting.search import CandidateScore, halving, num_asked
from kamerton.store.variants import Variant
from kamerton.training.scoring import tokens_of
from kamerton.variants.opening import engine_of
from kamerton.variants.rendering import renderer_of

__all__ = ["SEARCH_FILE", "Searched", "search_prompts"]

SEARCH_FILE = "prompt_search.json"
"""In the run's folder: all that was tried."""

_MOST_QUESTIONS = 96
_FEWEST_QUESTIONS = 12
_TEXTS_TO_GUESS_BY = 50
_SHOWN: Sequence[PromptSettings] = (
    PromptSettings(),
    PromptSettings(demonstrations=4, seed=0),
    PromptSettings(demonstrations=4, seed=1),
    PromptSettings(demonstrations=4, selection="diverse", seed=0),
    PromptSettings(demonstrations=4, selection="nearest"),
    PromptSettings(demonstrations=8, seed=0),
    PromptSettings(demonstrations=8, selection="random", seed=1),
    PromptSettings(demonstrations=8, selection="nearest"),
)


@dataclass(frozen=True, eq=False, slots=True)
class Searched:
    """What a search found.

    Attributes:
        variant: The winner, a prompt without a trained part.
        settings: All candidates.
        trials: How far each came, the winner's first.
        measured: What the numbers of a trial are: `right` and `log-probability`, or the last alone.
        num_questions: Questions of the training part that were searched on.
    """

    variant: Variant
    settings: Sequence[PromptSettings]
    trials: Sequence[CandidateScore]
    measured: tuple[str, ...]
    num_questions: int

    @property
    def winner(self) -> PromptSettings:
        """The settings that won."""
        return self.settings[self.trials[0].candidate]

    @property
    def recipe_lines(self) -> list[str]:
        """The winner as a recipe says it."""
        plain = self.winner.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
        return ["[prompt]", *(f"{key} = {toml_value(value)}" for key, value in plain.items())]

    def to_json(self) -> dict[str, Any]:
        """Give what was tried as plain values.

        Returns:
            `num_questions`, and `tried`: the settings and scores of each, the winner first.
        """
        tried = [
            {
                **self.settings[trial.candidate].model_dump(mode="json"),
                "num_questions": trial.num_questions,
                **dict(zip(self.measured, trial.score, strict=True)),
            }
            for trial in self.trials
        ]
        return {"num_questions": self.num_questions, "tried": tried}


def search_prompts(
    recipe: Recipe,
    folder: Path,
    workspace: Workspace,
    sink: Sink,
    *,
    name: str = "",
    instructions: Sequence[str] = (),
    most_questions: int = _MOST_QUESTIONS,
) -> Searched:
    """Search the best prompt for a recipe's data and base, and make a variant of it.

    Args:
        recipe: Gives data, base and a system text; its adapter and objective are passed over.
        folder: The folder that the recipe's paths are relative to.
        workspace: The workspace of the variant; what was tried is kept in its run's folder.
        sink: Receives progress and notices.
        name: The variant's name; the recipe's with `-prompt` when empty.
        instructions: System texts to try beside the recipe's and the one that is built of the data.
        most_questions: Most questions of the training part to search on.

    Returns:
        The winner and what was tried.

    Raises:
        DataError: If there are no questions with one right answer, or too few.
        SettingsError: If no part is kept aside to measure the winner on.
        ModelError: If the base cannot be loaded.
    """
    ensure_here(recipe.base.id, recipe.base.device)
    prepared = read_examples(recipe, folder, sink)
    if not (prepared.holdout or prepared.test):
        raise SettingsError(
            translated("nothing is kept aside to measure the best prompt on"),
            hint=translated("set data.holdout, such as 0.2"),
        )
    texts = _system_texts(recipe, prepared.train, instructions)
    settings = [shown.model_copy(update={"system": s}) for s, shown in product(texts, _SHOWN)]
    # All candidates choose among the same examples, as the variant itself will.
    prompts = [
        make_prompt(recipe.model_copy(update={"prompt": one}), prepared.train) for one in settings
    ]
    shown = [chat for prompt in prompts if not prompt.nearest for chat in prompt.demonstrations]
    questions = _to_search_on(prepared.train, shown, most_questions)
    base = load_base(
        recipe.base.id,
        dtype=recipe.base.dtype,
        device=recipe.base.device,
        quantise=recipe.base.quantise,
    )
    same = {"max_tokens": longest_row(base.model.config), "overlong": "drop"}
    renderer = renderer_of(base, recipe.render.model_copy(update=same))
    candidates = [
        Candidate(str(place), renderer, (prompt,)) for place, prompt in enumerate(prompts)
    ]
    labels = sorted({one.label for one in prepared.train if isinstance(one, ClassificationExample)})
    asked = [_ask(one, questions, labels) for one in candidates]
    fitting = [place for place, own in enumerate(asked) if own]
    if not fitting:
        raise DataError(translated("no question fits into the base's context"))
    if lost := len(asked) - len(fitting):
        told = translated(
            "{lost} of {num} prompts are too long for the base", lost=lost, num=len(asked)
        )
        sink(Notice(told, "warning"))
    items = make_items(questions, labels=labels or None)
    total = num_asked(len(fitting), len(questions))
    measure = _Measure(base, engine_of(base, renderer), items, asked, sink, total)
    trials = [
        CandidateScore(fitting[one.candidate], one.num_questions, one.score)
        for one in halving(
            len(fitting), len(questions), lambda one, places: measure(fitting[one], places)
        )
    ]
    made = recipe.model_copy(
        update={
            "name": name or f"{recipe.name}-prompt",
            "prompt": settings[trials[0].candidate],
            "adapter": NoAdapterSettings(),
            "start_from": "",
        }
    )
    del base
    variant = make_variant(made, folder, workspace, sink).variant
    measured = ("right", "log-probability") if labels else ("log-probability",)
    searched = Searched(variant, settings, trials, measured, len(questions))
    _keep(searched, workspace)
    return searched


class _Measure:
    """Asks candidates, and says how far it is."""

    def __init__(
        self,
        base: Base,
        engine: Engine,
        items: Sequence[Item],
        asked: Sequence[Sequence[Asked]],
        sink: Sink,
        total: int,
    ) -> None:
        self._base, self._engine, self._items, self._asked = base, engine, items, asked
        self._sink, self._total = sink, total
        self._done = 0

    def __call__(self, candidate: int, places: Sequence[int]) -> list[tuple[float, ...]]:
        asked = [self._asked[candidate][place] for place in places]
        items = [self._items[place] for place in places]
        self._sink(Progress(translated("searching"), self._done, self._total, "questions"))
        found = self._chosen(items, asked) if items[0].labels else self._written(asked)
        self._done += len(places)
        self._sink(Progress(translated("searching"), self._done, self._total, "questions"))
        return found

    def _chosen(self, items: Sequence[Item], asked: Sequence[Asked]) -> list[tuple[float, ...]]:
        """Whether the right label is the likeliest, and its log-probability among the labels."""
        chats = [each.prompt.apply(item.chat) for item, each in zip(items, asked, strict=True)]
        found: list[tuple[float, ...]] = []
        for item, scores in zip(
            items, self._engine.score(chats, [item.labels for item in items]), strict=True
        ):
            logits = np.array([score.logprob for score in scores])
            right = item.labels.index(item.reference)
            among = logits[right] - np.logaddexp.reduce(logits)
            found.append((float(logits.argmax() == right), float(among)))
        return found

    def _written(self, asked: Sequence[Asked]) -> list[tuple[float, ...]]:
        """The mean log-probability of the right answer's tokens."""
        rows = [each.rows[0] for each in asked]
        return [(float(tokens.mean()),) for tokens in tokens_of(self._base, rows)]


def _system_texts(
    recipe: Recipe, train: Sequence[Example], instructions: Sequence[str]
) -> list[str]:
    """List what stands before the question: the recipe's own, those of the data, the given."""
    kind = kind_of_task(train)
    guess = language_guesser()
    languages = Counter(guess(question_text(one)) for one in train[:_TEXTS_TO_GUESS_BY])
    language = languages.most_common(1)[0][0]
    built = [instruction(kind, recipe.purpose, language)]
    if kind.name == "classes":
        # Labels that are named mislead some small bases.
        built.append(task_sentence(kind, recipe.purpose, language))
    return list(dict.fromkeys([recipe.prompt.system, *built, *instructions]))


def _to_search_on(
    train: Sequence[Example], shown: Sequence[Sequence[Mapping[str, Any]]], most: int
) -> list[Measurable]:
    """Draw questions that no candidate shows, at most so many."""
    asked = {str(chat[0]["content"]) for chat in shown}
    usable = [
        example
        for example in train
        if isinstance(example, ChatExample | ClassificationExample)
        and question_text(example) not in asked
    ]
    if len(usable) < _FEWEST_QUESTIONS:
        raise DataError(
            translated(
                "a search needs at least {fewest} training examples with one right answer that no "
                "prompt shows, found {num}",
                fewest=_FEWEST_QUESTIONS,
                num=len(usable),
            ),
            hint=translated("give more examples; pairs and verdicts have no right answer"),
        )
    drawn = sorted(usable, key=lambda one: unit_interval(0, "search", question_hash(one)))
    return list(drawn[:most])


def _ask(
    candidate: Candidate, questions: Sequence[Measurable], labels: Sequence[str]
) -> list[Asked]:
    """Render all questions; none where one does not fit."""
    try:
        return [candidate.ask(question, labels) for question in questions]
    except RenderingError:
        return []


def _keep(searched: Searched, workspace: Workspace) -> None:
    """Write down what was tried."""
    folder = workspace.runs / searched.variant.name
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / SEARCH_FILE, json.dumps(searched.to_json(), ensure_ascii=False))
