"""What training for pass@k, and for the likelihood, does to pass@1 of two prompts that compete."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import exact, select
from experiments.exact.pass_at_k_conflict import Settings
from maxrl_lab.claims import Claim, number

LIKELIHOOD = "maximum_likelihood"


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return how far pass@1 falls on the way, and what is gained by then."""
    rows = tables["rows"]
    made = []
    for name, key, subject in (
        (f"pass_at_k:k={settings.k}", "pass_at_k_lowers_pass_at_1", f"Training for pass@{settings.k}"),
        (LIKELIHOOD, "likelihood_lowers_pass_at_1", "Training for the likelihood"),
    ):
        path = select(rows, objective=name).sort_values("step")
        if path.empty:
            continue
        start, low = path.iloc[0], path.loc[path.pass_at_1.idxmin()]
        change = exact(low.pass_at_1 - start.pass_at_1)
        sentence = (
            f"{subject} can lower pass@1, without any noise: on two prompts that compete for a parameter pass@1 falls "
            f"from {number(start.pass_at_1)} to {number(low.pass_at_1)} within {low.step:g} updates, as "
            f"pass@{settings.k} goes from {number(start.pass_at_k)} to {number(low.pass_at_k)} (exact)."
        )
        made.append(change.claim(key, "", sentence, direction="below", boundary=-0.01))
    return made
