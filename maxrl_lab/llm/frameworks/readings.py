"""Thirteen frameworks beside TRL and verl, one entry a framework, those that have MaxRL first.

Every formula is the lab's own words for code that was read at the named version. `status` says what was run beside it:
the function of a release on the package index, by a test; the function at a commit, once; or nothing, where the code
stands in the middle of a loop.
"""

from maxrl_lab.llm.frameworks import with_maxrl, without_maxrl

READINGS = (
    with_maxrl.SKYRL,
    with_maxrl.PRIME_RL,
    with_maxrl.RLHF_BOOK,
    with_maxrl.OFFICIAL,
    without_maxrl.RLLM,
    without_maxrl.NEMO_RL,
    without_maxrl.OPENRLHF,
    without_maxrl.SLIME,
    without_maxrl.TINKER,
    without_maxrl.OPEN_INSTRUCT,
    without_maxrl.AREAL,
    without_maxrl.MS_SWIFT,
    without_maxrl.NANOCHAT,
)
"""The frameworks in the table's order."""
