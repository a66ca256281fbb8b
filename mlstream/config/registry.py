"""The `schema_registry:` section: where the schemas are that records name by id. No network."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr, WithJsonSchema

from mlstream.config.section import Section


class RegistryConfig(Section):
    """A schema registry that speaks Confluent's REST interface; a URL alone may stand for the whole section."""

    url: str = Field(description="http(s)://host[:port][/path]")
    user: str | None = Field(None, description="for basic authentication, or a cloud's API key")
    password: SecretStr | None = Field(None, description="of the user, or the API key's secret")
    token: SecretStr | None = Field(None, description="a bearer token, instead of a user")
    ca_file: str | None = Field(None, description="the certificate authority to trust, instead of the system's")


Registry = Annotated[
    RegistryConfig,
    BeforeValidator(lambda value: {"url": value} if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [RegistryConfig.model_json_schema(), {"type": "string"}]}),
]
