"""The base of every config class: frozen, unknown keys refused, one line of docstring under every field."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen block of settings. It validates and never changes a value; derived numbers are properties."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )
