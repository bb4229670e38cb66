"""Command lines on which `section.key=value` words may stand on either side of options."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn


class ArgumentParser(argparse.ArgumentParser):
    """argparse gives up on positional words after an option; here they join the command's `overrides`.

    Sub-commands added to such a parser are parsed the same way. A mistake is told in one sentence.
    """

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where the usage is told; exit status 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_known_args(  # type: ignore[override]  # argparse's overloads also name other namespace classes
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, and take words that are left over as overrides where the command has such."""
        result: Any
        result, left = super().parse_known_args(args, namespace)
        if "overrides" not in result:
            return result, left
        words = [word for word in left if not word.startswith("-")]
        result.overrides = [*result.overrides, *words]
        return result, [word for word in left if word.startswith("-")]
