"""A module that verl imports at its own start, in every process: it registers the lab's estimators by name.

verl looks advantage functions up by name in the process that computes advantages (a Ray actor), and the only thing it
does for a plugin there is to import the modules of the entry-point group `verl.plugins` (and those listed in the
environment variable `VERL_USE_EXTERNAL_MODULES`). So importing this module has to have an effect; it has no other
content. verl hides an exception raised here and later says "Unknown advantage estimator": to see the reason, run
`python -c "import maxrl_lab.llm.verl.plugin"`.
"""

from maxrl_lab.llm.verl.advantages import register

register()
