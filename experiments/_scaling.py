"""Fig. 3 of the paper in every room: -log pass@k falls with the rollouts N, and for MaxRL it falls faster."""

import pandas as pd

from experiments._claims import difference, ends_text, over_seeds, seeds_text, slopes
from maxrl_lab.claims import Claim, number


def falls(ours: pd.DataFrame, k: int, *, mazes: str, paper: str = "Fig. 3", note: str = "") -> Claim:
    """Return the claim that MaxRL's -log pass@k, the column `surprise` of a row a seed and N, falls with N.

    `mazes` says which pass rates these are, `note` what else the interval rests on, `, exact pass rates`.
    """
    fall = over_seeds(slopes(ours, "surprise"))
    ends = ends_text(ours, "surprise", form="{:.2f}".format)
    sentence = (
        f"For MaxRL -log pass@{k} on {mazes} mazes falls with the rollouts N, in the mean over seeds {ends}: by {fall} "
        f"nats for each doubling ({seeds_text(fall)}{note})."
    )
    return fall.claim(f"maxrl_falls_with_rollouts_pass_at_{k}", paper, sentence, direction="below")


def falls_faster(
    ours: pd.DataFrame, theirs: pd.DataFrame, other: str, k: int, *, mazes: str, paper: str = "Fig. 3", note: str = ""
) -> Claim:
    """Return the claim that MaxRL's -log pass@k falls faster with N than another estimator's does, as in `falls`."""
    falling, rival = (slopes(rows, "surprise") for rows in (ours, theirs))
    lead = difference(falling, rival)
    means = (number(float(values.mean())) for values in (falling, rival))
    sentence = (
        f"Rollouts buy MaxRL more than {other.upper()}: -log pass@{k} on {mazes} mazes changes by "
        f"{' and '.join(means)} nats for each doubling of N, a difference of {lead} ({seeds_text(lead)}{note})."
    )
    return lead.claim(f"maxrl_falls_faster_than_{other}_pass_at_{k}", paper, sentence, direction="below")
