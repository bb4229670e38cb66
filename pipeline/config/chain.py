"""A chain of recipes, each begun when those before it have succeeded."""

from pathlib import PurePath

from pydantic import Field, model_validator

from pipeline.config.base import Config


class ChainStep(Config):
    """One recipe of a chain."""

    recipe: str
    """YAML file of a stage, as seen from the working folder."""
    overrides: tuple[str, ...] = ()
    """`section.key=value` words that replace the recipe's."""
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """What the chain calls it; the recipe's file name if not given."""
    cluster: str | None = None
    """Another cluster file for this step."""
    after: tuple[str, ...] | None = None
    """Names of the steps that must have succeeded; the one before if not given."""

    @property
    def title(self) -> str:
        """What the chain calls it."""
        return self.name or PurePath(self.recipe).stem


class ChainConfig(Config):
    """A chain file."""

    chain: tuple[ChainStep, ...] = Field(min_length=1)
    """The steps; each may only need steps above it."""

    @model_validator(mode="after")
    def names_are_known(self) -> "ChainConfig":
        """Each step has a name of its own, and needs steps above it."""
        above: list[str] = []
        for index, step in enumerate(self.chain):
            if step.title in above:
                raise ValueError(f"chain.{index} is the second step called {step.title!r}; give it a name")
            for name in step.after or ():
                if name not in above:
                    known = ", ".join(above) or "none"
                    raise ValueError(f"chain.{index}: after names {name!r}, and the steps above are: {known}")
            above.append(step.title)
        return self

    def before(self, index: int) -> tuple[str, ...]:
        """Names of the steps that must have succeeded before this one begins."""
        after = self.chain[index].after
        if after is not None:
            return after
        return (self.chain[index - 1].title,) if index else ()
