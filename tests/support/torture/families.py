"""The runs that are tortured: one small experiment of each family, and its rows when it is left alone."""

from dataclasses import dataclass
from pathlib import Path

from torture.forks import Ended, command, fresh, tables

SMALL = {
    "classification": ("--rollouts", "4", "--estimators", "maxrl", "--seeds", "2"),
    "navigation": ("--rollouts", "4", "--seeds", "2"),
    "maze_scaling": ("--rollouts", "4", "--estimators", "maxrl", "grpo"),
}


@dataclass(frozen=True, eq=False)
class Family:
    """One experiment with its flags, and the rows and seconds of a run that nothing has disturbed."""

    name: str
    rows: dict[str, bytes]
    seconds: float

    @property
    def arguments(self) -> list[str]:
        """The command, for a folder of results `out` in the current one."""
        return arguments(self.name)

    def folder(self, scratch: Path) -> Path:
        """The folder of the run."""
        return scratch / "out" / "smoke" / self.name

    def run_again(self, scratch: Path) -> str | None:
        """Run the command in a folder, to its end; return what is wrong with its rows, None if nothing is."""
        return self.judge(command(self.arguments, scratch, variables=own_cache(scratch)), scratch)

    def judge(self, ended: Ended, scratch: Path) -> str | None:
        """Return what is wrong with a command that had to end with these rows, None if nothing is."""
        if ended.status != 0:
            return f"{self.name}: status {ended.status}: {' '.join(ended.lines[-1:])}"
        now = tables(self.folder(scratch))
        other = sorted(name for name in self.rows.keys() | now.keys() if self.rows.get(name) != now.get(name))
        return f"{self.name}: other rows in {', '.join(other)}" if other else None


def arguments(name: str, *more: str) -> list[str]:
    """Return the command that runs an experiment of the preset `smoke`."""
    return ["run", name, "--preset", "smoke", "--quiet", "--device", "cpu", "--out", "out", *SMALL[name], *more]


def undisturbed(name: str, scratch: Path) -> Family:
    """Return the family, run once for itself."""
    folder = fresh(scratch / f"undisturbed-{name}")
    ended = command(arguments(name), folder, variables=own_cache(folder))
    if ended.status != 0:
        raise RuntimeError(f"{name} does not run: {ended.error}")
    return Family(name, tables(folder / "out" / "smoke" / name), ended.seconds)


def own_cache(folder: Path) -> dict[str, str]:
    """Return the variable that keeps policies and levels of a run to itself."""
    return {"MAXRL_LAB_CACHE": str(folder / "cache")}
