"""Every experiment of the lab in one table: its module, what plots it, and the figures of the paper it speaks to."""

import ast
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from maxrl_lab import extras
from maxrl_lab.terminal import importing

if TYPE_CHECKING:
    import pandas as pd

    from maxrl_lab.claims import Claim


@dataclass(frozen=True)
class Entry:
    """One experiment; nothing is imported before it is asked for."""

    room: str
    """Folder of the family, below `experiments` and below `figures`."""
    name: str
    """Name of the module in both folders, of the command, of the run's folder and of the picture."""
    paper: str
    """Figures, tables and theorems of arXiv:2602.02710v1 that the experiment speaks to."""
    extra: str | None = None
    """The extra of pyproject.toml that the experiment needs, if any; `reproduce` leaves such an experiment out."""

    @property
    def module(self) -> str:
        """The dotted name of the module with `Settings`, `PRESETS` and `run(settings, context) -> tables`."""
        return f"experiments.{self.room}.{self.name}"

    @property
    def uses_all_cores(self) -> bool:
        """Whether the experiment spreads its work itself: over `processes`, or by a library that uses many threads."""
        return self.extra is not None or self.hands_out

    @property
    def hands_out(self) -> bool:
        """Whether the experiment is made of jobs, which processes or a cluster make side by side."""
        return hasattr(self.load().Settings, "processes")

    def load(self) -> ModuleType:
        """Return the experiment's module; raise `InputError` if its extra is not installed."""
        if self.extra:
            extras.need(self.extra)
        return _imported(self.module)

    def figure(self) -> ModuleType:
        """Return the module with `plot(tables, settings)` and `summarise(tables, settings)`."""
        return _imported(f"figures.{self.room}.{self.name}")

    def claims(self, tables: Mapping[str, "pd.DataFrame"], settings: Any) -> "list[Claim]":
        """Return what a run's rows decide: the claims of `experiments.<room>.claims.<name>`, none if there is none.

        They stand apart from the experiment, whose code makes the rows: a sentence may change, and the rows stay.
        """
        if not (Path(__file__).parent / self.room / "claims" / f"{self.name}.py").exists():
            return []
        made: list[Claim] = _imported(f"experiments.{self.room}.claims.{self.name}").claims(tables, settings)
        return made

    def question(self) -> str:
        """Return the first line of the module's docstring, read from its source: importing takes seconds."""
        source = (Path(__file__).parent / self.room / f"{self.name}.py").read_text(encoding="utf-8")
        return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _imported(module: str) -> ModuleType:
    with importing():
        return importlib.import_module(module)


EXPERIMENTS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("exact", "weight_functions", "Fig. 1"),
        Entry("exact", "unbiasedness", "Theorems 1 and 2"),
        Entry("exact", "bias_variance", "Sec. 4"),
        Entry("exact", "best_order", "Sec. 4"),
        Entry("exact", "likelihood_limit", "Eq. 7"),
        Entry("exact", "pass_at_k_conflict", "Sec. 4"),
        Entry("classification", "classification", "Fig. 2 and 9"),
        Entry("classification", "gradient_norms", "Fig. 8"),
        Entry("navigation", "navigation", "Fig. 3 and 7"),
        Entry("navigation", "navigation_generalisation", "Fig. 5 and 17"),
        Entry("navigation", "navigation_minigrid", "Fig. 3 and 7"),
        Entry("navigation", "navigation_optimisers", "Sec. 4"),
        Entry("navigation", "navigation_bias_variance", "Sec. 4"),
        Entry("navigation", "navigation_likelihood", "Fig. 2"),
        Entry("navigation", "trajectories", "Fig. 10"),
        Entry("tokens", "maze_scaling", "Fig. 3 and 17"),
        Entry("tokens", "maze_baselines", "Table 3 and Fig. 18"),
        Entry("tokens", "coverage", "Fig. 5 and Table 7"),
        Entry("tokens", "gradient_signal", "Fig. 6, 7, 12, 13 and 16"),
        Entry("tokens", "maze_trajectories", "Fig. 10"),
        Entry("tokens", "data_scarce", "Fig. 4 and Table 4"),
        Entry("exact", "length_bias", "App. F"),
        Entry("denoising", "diffusion_likelihood", "Sec. 4"),
        Entry("denoising", "diffusion_sampler", "Sec. 4"),
        Entry("feedback", "feedback", "(ours)"),
        Entry("exploration", "first_success", "(ours)"),
        Entry("exploration", "nonlinear_bandit", "(ours)"),
        Entry("llm", "llm", "Fig. 4 and 5", extra="llm"),
    )
}
"""Name to entry, in the order in which `reproduce` runs them."""
