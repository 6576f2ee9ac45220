"""Bodies of the requests that load and unload variants: vLLM's and our own."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["LoadAdapter", "PutModel", "ReloadRoutes", "StopArm", "UnloadAdapter"]


class LoadAdapter(BaseModel):
    """`POST /v1/load_lora_adapter`, as vLLM has it."""

    model_config = ConfigDict(extra="ignore")

    lora_name: str = Field(min_length=1)
    """What clients will ask for."""
    lora_path: str = Field(min_length=1)
    """Folder of a variant of any kind, relative to the project's variants or absolute."""
    load_inplace: bool = False
    """Whether the name may be loaded already, and then means this version from now on."""


class UnloadAdapter(BaseModel):
    """`POST /v1/unload_lora_adapter`, as vLLM has it."""

    model_config = ConfigDict(extra="ignore")

    lora_name: str = Field(min_length=1)
    """The name to forget."""


class PutModel(BaseModel):
    """`PUT /admin/models/NAME`: what a name is to mean from now on."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = Field(default=None, min_length=1)
    """Folder of a variant to load, relative to the project's variants or absolute."""
    artefact: str | None = Field(default=None, min_length=8)
    """Content hash of a version that is held already, or its beginning."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.path is None) == (self.artefact is None):
            raise ValueError("either path or artefact must be given")
        return self


class ReloadRoutes(BaseModel):
    """`POST /admin/routes/reload`."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = False
    """Whether the file is only checked."""


class StopArm(BaseModel):
    """Stops or resumes an arm of an experiment, or a canary."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field(default="", max_length=1000)
    """The reason, for the audit."""
