"""All layouts, in the order in which a row is held against them: the more particular ones first.

Knows: names. Does not know: rows.
"""

from oreo_agents.formats import answers, minari, played, samples, steps, trajectories, trl
from oreo_agents.formats.layout import Layout

LAYOUTS: tuple[Layout, ...] = (
    trajectories.OWN,
    *steps.LAYOUTS,
    *minari.LAYOUTS,
    *played.LAYOUTS,
    *samples.LAYOUTS,
    *trl.LAYOUTS,
    *trajectories.LAYOUTS,
    *answers.LAYOUTS,
    *trl.LAST_LAYOUTS,
)
