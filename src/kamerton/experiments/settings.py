"""An experiment as it is written down before it starts: one TOML file, `experiments/NAME.toml`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo

from kamerton.core.errors import SettingsError
from kamerton.core.files import hash_bytes, hash_json
from kamerton.core.routing import Caller
from kamerton.core.settings import Settings, read_toml

__all__ = [
    "Analysis",
    "ArmSettings",
    "ExperimentSettings",
    "GroupSequentialSettings",
    "GuardrailSettings",
    "Name",
    "PrimarySettings",
    "SequentialSettings",
    "UnitKind",
    "read_experiment",
    "unit_of",
]

_FEWEST_ADAPTIVE = 5
"""As `bandits.FEWEST_ARMS`: with fewer arms an A/B test is the better tool."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""Of a route, an experiment or an arm: it stands in headers, so it has no spaces or line ends."""

UnitKind = Literal["unit", "conversation", "tenant", "key"]
"""What one arm is given to: a user, shop or ticket; a conversation; a customer; an API key."""


class ArmSettings(Settings):
    """One way of answering that is compared."""

    variant: str = Field(min_length=1)
    """Name of the served variant that answers."""
    weight: float = Field(default=1.0, gt=0, le=1e6)
    """Share of units in proportion to the other arms' weights."""


class PrimarySettings(Settings):
    """The one metric that decides."""

    metric: str = Field(min_length=1)
    """Name of a declared metric."""
    better: Literal["up", "down"] = "up"
    """Whether more is better or less is."""
    smallest_effect: float = Field(gt=0)
    """Smallest difference worth acting on, in the metric's own unit: 0.05 for five points of a
    share. `plan` computes from it how many units are needed."""


class GuardrailSettings(Settings):
    """A metric that must not become worse; an arm that harms it is stopped."""

    metric: str = Field(min_length=1)
    """Name of a declared metric."""
    better: Literal["up", "down"] = "down"
    """Whether more is better or less is."""
    margin: float = Field(gt=0)
    """How much worse than the control an arm may be before it is stopped, in the metric's own
    unit. It is above 0, as a limit of 0 stops arms for harm that is too small to matter."""


class SequentialSettings(Settings):
    """Confidence sequences: the result may be read at every moment; there is no declared end."""

    kind: Literal["sequential"] = "sequential"
    """Looks at any time."""
    units: int | None = Field(default=None, ge=2)
    """Number of units, all arms together, at which the interval is narrowest; what `plan` computes
    where it is not given."""


class GroupSequentialSettings(Settings):
    """Looks at declared times and a declared end; narrower intervals than a sequential analysis."""

    kind: Literal["group-sequential"] = "group-sequential"
    """Looks at declared times."""
    days: int = Field(ge=1, le=366)
    """Days from the start to the last look."""
    looks: int = Field(default=4, ge=1, le=52)
    """Looks at even distances, the last one included."""


Analysis = Annotated[SequentialSettings | GroupSequentialSettings, Field(discriminator="kind")]


class ExperimentSettings(Settings):
    """A live comparison of variants, registered before it starts."""

    name: Name
    """Name; the file is called the same."""
    hypothesis: str = ""
    """What is expected and why, in a sentence or two; stands in the report."""
    unit: UnitKind = "unit"
    """What an arm is given to. A request that does not say its unit takes no part: it gets the
    control and is not counted."""
    salt: str = ""
    """Key of the hash that assigns units; the name of the experiment where it is empty. A new salt
    gives all units new arms. Take random letters where clients choose the ids of their units, else
    they could choose their arm."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of units that take part; the others get the control and are not counted. A larger
    share only adds units."""
    arms: dict[Name, ArmSettings] = Field(min_length=2)
    """The arms by name, two or more."""
    control: str
    """Name of the arm that the others are compared with."""
    primary: PrimarySettings
    """The metric that decides."""
    guardrails: tuple[GuardrailSettings, ...] = ()
    """Metrics that must not become worse."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Probability of seeing an effect where there is none, two-sided."""
    power: float = Field(default=0.8, gt=0.5, lt=1)
    """Probability of seeing the smallest effect where it is there."""
    min_units: int = Field(default=100, ge=25)
    """Units in each arm before a result is stated: the statistics hold for many units."""
    analysis: Analysis = SequentialSettings()
    """When the result may be read."""
    shares: Literal["fixed", "adaptive"] = "fixed"
    """Whether arms get units by their weights, or by Thompson sampling: more to those that do well
    so far. "adaptive" needs five arms or more, equal weights and a boolean primary metric."""

    @field_validator("arms")
    @classmethod
    def _different_variants(cls, arms: dict[str, ArmSettings]) -> dict[str, ArmSettings]:
        variants = [arm.variant for arm in arms.values()]
        twice = sorted({one for one in variants if variants.count(one) > 1})
        if twice:
            raise ValueError(f"each arm needs another variant, found twice: {', '.join(twice)}")
        return arms

    @field_validator("control")
    @classmethod
    def _known_control(cls, control: str, info: ValidationInfo) -> str:
        arms = info.data.get("arms")
        if arms is not None and control not in arms:
            raise ValueError(f"must be one of the arms {', '.join(arms)}, got '{control}'")
        return control

    @field_validator("guardrails")
    @classmethod
    def _different_metrics(
        cls, guardrails: tuple[GuardrailSettings, ...]
    ) -> tuple[GuardrailSettings, ...]:
        metrics = [one.metric for one in guardrails]
        twice = sorted({one for one in metrics if metrics.count(one) > 1})
        if twice:
            raise ValueError(f"each metric needs one guardrail, found more for {', '.join(twice)}")
        return guardrails

    @model_validator(mode="after")
    def _enough_days(self) -> Self:
        plan = self.analysis
        if isinstance(plan, GroupSequentialSettings) and plan.looks > plan.days:
            raise ValueError(
                f"analysis.looks must be at most one a day, got {plan.looks} in {plan.days} days"
            )
        return self

    @model_validator(mode="after")
    def _can_adapt(self) -> Self:
        if self.shares == "fixed":
            return self
        problems = []
        if len(self.arms) < _FEWEST_ADAPTIVE:
            problems.append(f"needs at least {_FEWEST_ADAPTIVE} arms, got {len(self.arms)}")
        if len(set(self.weights.values())) > 1:
            problems.append("needs equal weights, as shares follow the outcomes")
        if isinstance(self.analysis, GroupSequentialSettings):
            problems.append("goes with no group-sequential analysis, which needs fixed shares")
        if problems:
            raise ValueError(f"shares = 'adaptive' {'; it '.join(problems)}")
        return self

    @property
    def key(self) -> str:
        """Key of the hash that assigns units."""
        return self.salt or self.name

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of each arm."""
        return {name: arm.weight for name, arm in self.arms.items()}

    @property
    def phase(self) -> str:
        """Tells the assignments of one salt from those of the next; it does not show the salt."""
        return hash_bytes(self.key.encode())[:12]

    @property
    def assignment(self) -> str:
        """Hash of what decides a unit's arm within a phase, the share that takes part left out."""
        arms = {name: arm.model_dump(mode="json") for name, arm in self.arms.items()}
        return hash_json({"unit": self.unit, "control": self.control, "arms": arms})[:12]

    @property
    def registration(self) -> str:
        """Hash of everything that was declared, SHA-256 in hex."""
        # Without adaptive shares the hash is the one of before there were any.
        unsaid = {"shares"} if self.shares == "fixed" else None
        return hash_json(self.model_dump(mode="json", exclude=unsaid))


def read_experiment(place: Path) -> ExperimentSettings:
    """Read an experiment.

    Args:
        place: Its TOML file, called as the experiment is.

    Returns:
        The experiment.

    Raises:
        SettingsError: If the file is missing or wrong; it lists every problem.
    """
    found = ExperimentSettings.parse(read_toml(place), source=str(place))
    if found.name != place.stem:
        raise SettingsError(
            f"{place}: the experiment is named '{found.name}', and the file '{place.stem}'",
            hint="give both one name: routes find an experiment by the name of its file",
        )
    return found


def unit_of(caller: Caller, kind: UnitKind) -> str:
    """Give the id that an arm is given to.

    Args:
        caller: Who asks.
        kind: What counts as a unit.

    Returns:
        The id; empty where the request does not say it.
    """
    found: str = getattr(caller, kind)
    return found
