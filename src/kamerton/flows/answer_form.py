"""What a variant was asked in training: noted in its manifest, or read from its data again."""

from pathlib import Path

from kamerton.core.errors import DataError
from kamerton.core.events import Notice, Sink
from kamerton.data.questions import AnswerForm, answer_form
from kamerton.flows.prepare import read_examples
from kamerton.flows.recipe import recipe_of
from kamerton.store.variants import Variant

__all__ = ["form_of"]


def form_of(variant: Variant, sink: Sink) -> AnswerForm:
    """Tell what a variant was asked and what it answered.

    Args:
        variant: The variant.
        sink: Receives notices where its data has to be read again.

    Returns:
        The form of its training rows.

    Raises:
        DataError: If its manifest does not say, and its data cannot be read.
    """
    noted = variant.manifest.data
    if noted.format:
        return AnswerForm(noted.format, noted.columns, noted.labels, noted.json_fields)
    try:
        prepared = read_examples(recipe_of(variant), Path(variant.manifest.recipe_folder), sink)
    except DataError as error:
        raise DataError(
            f"{variant.name} does not say what its training rows were, and they cannot be read: "
            f"{error.message}",
            hint="put the training file back where it was, or train the variant again",
        ) from error
    if prepared.loaded.fingerprint != noted.fingerprint:
        changed = f"{noted.place} has changed since {variant.name} was trained"
        sink(Notice(f"{changed}: labels and columns are those of today", "warning"))
    return answer_form(prepared.loaded.schema, prepared.train)
