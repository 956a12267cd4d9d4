"""Where rollouts come from: tasks that know nothing of estimators."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envs.tabular import TabularTasks


def tabulate(env: Any, **options: Any) -> "TabularTasks":
    """Return a Gymnasium environment as one exact tabular task; see `envs.exploring.tabulate`, which this calls."""
    from envs import exploring  # `import gymnasium` imports this package for its plug-ins: torch must not come along

    return exploring.tabulate(env, **options)
