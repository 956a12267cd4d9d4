"""App. F of the paper averages over tokens: what that favours."""

from collections.abc import Mapping

import pandas as pd

from experiments._claims import exact
from experiments.exact.length_bias import Settings
from maxrl_lab.claims import Claim, number


def claims(tables: Mapping[str, pd.DataFrame], settings: Settings) -> list[Claim]:
    """Return whether each way of dividing by tokens favours the short answer."""
    rows = tables["rows"]
    made = []
    if "sequence_sum" in settings.surrogates:
        drift = exact(rows[rows.surrogate == "sequence_sum"].drift.abs().max())
        sentence = (
            "Summed over tokens, the gradient favours no length: the odds of a long right answer against a short one "
            f"drift by at most {drift} a unit step, for every estimator and length (exact)."
        )
        made.append(drift.claim("a_sum_favours_no_length", "App. F", sentence, direction="below", boundary=1e-9))
    longer = rows[rows.long > settings.short]
    ways = {"token_mean": "mean over the batch's tokens", "rollout_mean": "mean over each answer"}
    for name, text in ways.items():
        if name not in settings.surrogates or longer.empty:
            continue
        drifts = longer[longer.surrogate == name].groupby("long").drift.max()
        drift, longest = exact(drifts.max()), drifts.index.max()
        sentence = (
            f"The {text} favours short right answers: at N = {settings.rollouts} the odds of every longer one fall, "
            f"with every estimator, by {number(-drifts[longest])} or more a unit step at {longest / settings.short:g} "
            f"times the length and by {number(-drift.value)} or more at any length (exact)."
        )
        made.append(drift.claim(f"{name}_favours_short", "App. F", sentence, direction="below"))
    return made
