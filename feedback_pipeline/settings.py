"""One typed settings object; every value can be set by an environment variable FEEDBACK_<NAME>."""

import math
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ScoreBounds = dict[str, tuple[float, float]]


class Settings(BaseSettings):
    """Configuration of one installation, read from the environment."""

    model_config = SettingsConfigDict(env_prefix="FEEDBACK_", extra="ignore", frozen=True, ignored_types=(cached_property,))

    database_url: SecretStr | None = Field(
        default=None,
        description="postgresql:// URL of the database with the source tables; unset: an embedded Postgres is started",
    )
    home: Path = Field(default=Path(".feedback"), description="folder of everything this installation keeps")
    store_url: str | None = Field(default=None, description="feature store: a folder or any fsspec URL; unset: <home>/store")
    first_day: date = Field(
        default=date(2020, 1, 1), description="first UTC day of the daily partitions; older reviews go to the ledger"
    )
    score_bounds: Annotated[
        ScoreBounds, Field(description='JSON {aspect or "*": [low, high]}; a score outside costs that score')
    ] = {"*": (0.0, 10.0)}
    seed: int = Field(default=20200101, ge=0, description="seed of every resampling step of the learning pass")
    dagster_port: int = Field(default=3000, ge=1, le=65535, description="port of the Dagster UI on loopback")
    mlflow_port: int = Field(default=5000, ge=1, le=65535, description="port of the MLflow UI on loopback")
    mlflow_url: str | None = Field(
        default=None, description="address of an MLflow UI that runs elsewhere, for links; unset: `up` serves one"
    )
    mlflow_artifacts: str | None = Field(
        default=None,
        description="folder or URL for the files of MLflow; unset: <home>/mlflow/artifacts, or where its server puts them",
    )

    @field_validator("mlflow_artifacts")
    @classmethod
    def _absolute_unless_a_url(cls, value: str | None) -> str | None:
        return value if not value or "://" in value else str(Path(value).expanduser().absolute())

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("score_bounds")
    @classmethod
    def _finite_and_ordered(cls, value: ScoreBounds) -> ScoreBounds:
        for aspect, (low, high) in value.items():
            if not math.isfinite(high - low):
                raise ValueError(f"score bounds of {aspect!r} must be finite numbers, got [{low}, {high}]")
            if not low < high:
                raise ValueError(f"score bounds of {aspect!r} must be [low, high] with low < high, got [{low}, {high}]")
        return {"*": (0.0, 10.0)} | value

    @property
    def store(self) -> str:
        """Root of the feature store: a folder or an fsspec URL."""
        return self.store_url or str(self.home / "store")
