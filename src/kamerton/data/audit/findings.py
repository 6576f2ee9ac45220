"""What an audit found: plain records, ready for a table or for JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kamerton.data.rows import Rejection

__all__ = ["Audit", "Count", "Quantiles"]


@dataclass(frozen=True, slots=True)
class Count:
    """How often something was found.

    Attributes:
        number: Examples, or whatever the owner counts.
        locations: Locations of the first few, `file:line`.
    """

    number: int = 0
    locations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quantiles:
    """How long texts are.

    Attributes:
        median: Half are shorter.
        p90: Nine in ten are shorter.
        p99: 99 in 100 are shorter.
        longest: The largest.
    """

    median: int
    p90: int
    p99: int
    longest: int


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found in a data set; everything is counted in examples unless said otherwise.

    Attributes:
        source: File or Hub id.
        format: Format of the rows.
        fingerprint: Hash of the examples' content.
        num_rows: Rows read.
        num_examples: What the usable rows give: one each, rankings and ratings any number of pairs.
        num_other_splits: Rows left out because `data.split` names other ones.
        splits: Rows per split, where the source holds several.
        columns: Our field to their column.
        unused_columns: Columns that no field takes; dotted where text stands inside others.
        unused_prose: Those of them that hold sentences rather than names.
        unused_keys: Keys of turns that nothing takes, to the number of turns.
        rejections: All rows that cannot be used.
        reasons: Field and reason to number of rows, most frequent first.
        labels: Class (or good and bad) to number, most frequent first.
        lengths: "input" and "answer", each in "characters" and "words".
        languages: ISO code to number, over at most 500 examples spread over the data.
        exact_duplicates: Examples that say the same as an earlier one.
        near_duplicates: Examples that say nearly the same as an earlier one.
        contradictions: Questions that are answered in several ways.
        identical_pairs: Pairs whose better and worse answers are the same.
        chosen_longer: Share of pairs whose better answer is the longer one; None without pairs.
        open_endings: Conversations that end with a turn nobody answers; it trains nothing.
        empty_words: Examples whose question or answer is no more than "nan", "None" or "#N/A".
        template_marks: Mark of a turn that a chat template has written, to the number of examples
            that have it first.
        stop_text: Text that ends nearly all answers, such as "END"; empty for nothing.
        leaked: Holdout examples that ask what training asks; None without a holdout.
        nearly_leaked: Holdout examples that ask nearly what training asks.
        personal: Kind to examples that hold such data.
        notices: What was not looked at.
        warnings: What to mind, in words.
    """

    source: str
    format: str
    fingerprint: str
    num_rows: int
    num_examples: int
    num_other_splits: int
    splits: Mapping[str, int]
    columns: Mapping[str, str]
    unused_columns: tuple[str, ...]
    unused_prose: tuple[str, ...]
    unused_keys: Mapping[str, int]
    rejections: tuple[Rejection, ...]
    reasons: Mapping[str, int]
    labels: Mapping[str, int]
    lengths: Mapping[str, Mapping[str, Quantiles]]
    languages: Mapping[str, int]
    exact_duplicates: Count
    near_duplicates: Count
    contradictions: Count
    identical_pairs: Count
    chosen_longer: float | None
    open_endings: Count
    empty_words: Count
    template_marks: Mapping[str, int]
    stop_text: str
    leaked: Count | None
    nearly_leaked: Count | None
    personal: Mapping[str, Count]
    notices: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give plain values.

        Returns:
            What `json.dumps` takes; rejections have "location", "field" and "reason".
        """
        values = asdict(self)
        values["rejections"] = [
            {"location": str(r.location), "field": r.field, "reason": r.reason}
            for r in self.rejections
        ]
        return values
