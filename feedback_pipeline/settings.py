"""One typed settings object; every value can be set by an environment variable FEEDBACK_<NAME>."""

import math
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ScoreBounds = dict[str, tuple[float, float]]
Scope = Literal["read", "write", "admin"]


class ApiToken(BaseModel):
    """A bearer token of the API: what it allows, and its hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: Scope = Field(description="write includes read, admin includes both")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the token, in hexadecimal")


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
    host: str = Field(
        default="127.0.0.1",
        description="address the web UIs of `up` and `demo` listen on; they have no login, so let a proxy ask for one",
    )
    dagster_port: int = Field(default=3000, ge=1, le=65535, description="port of the Dagster UI")
    dagster_url: str | None = Field(
        default=None, description="address of the Dagster UI as people reach it, for links; unset: its port on this machine"
    )
    api_port: int = Field(default=8000, ge=1, le=65535, description="port of the page and the HTTP API")
    api_tokens: Annotated[
        dict[str, ApiToken],
        Field(
            description='JSON {name: {"scope": read, write or admin, "sha256": hash of the token}}; unset: the API answers '
            "this machine alone, and without a token"
        ),
    ] = {}
    mlflow_port: int = Field(default=5000, ge=1, le=65535, description="port of the MLflow UI")
    mlflow_url: str | None = Field(
        default=None, description="address of an MLflow UI that runs elsewhere, for links; unset: `up` serves one"
    )
    mlflow_artifacts: str | None = Field(
        default=None,
        description="folder or URL for the files of MLflow; unset: <home>/mlflow/artifacts, or where its server puts them",
    )
    learn_threshold: int = Field(default=5, ge=1, description="new reviews of one agent that start a learning pass")
    learn_thresholds: Annotated[
        dict[str, Annotated[int, Field(ge=1)]], Field(description="JSON {agent: new reviews}: thresholds of single agents")
    ] = {}
    learn_age_days: float = Field(
        default=7, gt=0, description="a change that waits for so many days is learned whatever the counts"
    )
    quiet_seconds: float = Field(
        default=10, ge=0, description="a pass starts once no review has changed for so long: a burst makes one pass"
    )
    longest_wait_seconds: float = Field(
        default=60, ge=0, description="so long after the threshold was crossed a pass starts although reviews still change"
    )
    retry_pause_seconds: float = Field(
        default=60,
        ge=0,
        description="seconds before a failed pass is tried again; 5 and 25 times as long after more failures",
    )
    sensor_seconds: int = Field(default=10, ge=1, description="seconds between two looks for new reviews; below 5 as 5")
    daily_hour: int = Field(
        default=3, ge=0, le=23, description="hour (UTC) of the daily comparison of all days with the database"
    )
    alert_webhook: SecretStr | None = Field(
        default=None, description="http(s) address that gets a JSON document whenever a run fails; unset: nobody is told"
    )

    @field_validator("mlflow_artifacts")
    @classmethod
    def _absolute_unless_a_url(cls, value: str | None) -> str | None:
        return value if not value or "://" in value else str(Path(value).expanduser().absolute())

    @field_validator("alert_webhook")
    @classmethod
    def _an_address_of_the_web(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        if not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value

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
