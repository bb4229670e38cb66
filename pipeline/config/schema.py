"""A JSON schema of every config, so that editors complete and check them."""

import json
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from pipeline.config.evaluate import EvaluateConfig
from pipeline.config.export import ExportConfig
from pipeline.config.prep.recipe import PrepConfig
from pipeline.config.run import RunConfig

_AnyConfig = Annotated[PrepConfig | RunConfig | EvaluateConfig | ExportConfig, Field(discriminator="stage")]


def schema_text() -> str:
    """The schema of a stage's config file as JSON text."""
    schema: dict[str, Any] = TypeAdapter(_AnyConfig).json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1) + "\n"
