"""What was read of a framework: its source, its version, and its ways to compute advantages."""

from dataclasses import dataclass

from maxrl_lab.llm.frameworks.formulas import Formula


@dataclass(frozen=True)
class Method:
    """One way to compute advantages, under the framework's name for it."""

    name: str
    formula: Formula
    remark: str = ""
    """A sentence on what neither the audit nor the edges show."""


@dataclass(frozen=True)
class Reading:
    """A framework, the file that was read, and its methods."""

    framework: str
    repository: str
    path: str
    version: str
    """The commit that was read, or the release whose function a test runs."""
    date: str
    methods: tuple[Method, ...]
    package: str = ""
    """The release on the package index whose function a test runs beside the formula."""
    compared: bool = False
    """Whether the formula was compared once, by hand, with the function at that commit."""

    @property
    def status(self) -> str:
        """What stands behind the formulas besides reading."""
        if self.package:
            return "run by a test"
        return "compared once" if self.compared else "read, not run"


WHITENED = "Whitened over the tokens of the batch."
ONLY_CENTRED = "GRPO by name, without a division by the deviation."
