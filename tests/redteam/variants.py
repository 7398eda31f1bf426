"""All variants by kind: cheats in the order of their channels, honest code, and attacks on the sandbox."""

from __future__ import annotations

from tests.redteam import attacks, gathered
from tests.redteam.arena import Variant
from tests.redteam.cheats import crossing
from tests.redteam.cheats.batch_leak import BATCH_LEAK
from tests.redteam.cheats.common_parent import COMMON_PARENT
from tests.redteam.cheats.data_access import DATA_ACCESS
from tests.redteam.cheats.future_leak import FUTURE_LEAK
from tests.redteam.cheats.kept_state import KEPT_STATE
from tests.redteam.cheats.prior_knowledge import PRIOR_KNOWLEDGE
from tests.redteam.cheats.returned_logits import RETURNED_LOGITS
from tests.redteam.cheats.scored_code import SCORED_CODE
from tests.redteam.cheats.scorer_detection import SCORER_DETECTION
from tests.redteam.cheats.scorer_process import SCORER_PROCESS
from tests.redteam.cheats.scorer_resources import SCORER_RESOURCES
from tests.redteam.cheats.training_clock import TRAINING_CLOCK
from tests.redteam.cheats.weights_files import WEIGHTS_FILES
from tests.redteam.escape import Escape
from tests.redteam.honest.crashes import CRASHES
from tests.redteam.honest.machinery import MACHINERY
from tests.redteam.honest.models import MODELS
from tests.redteam.honest.near_limits import NEAR_LIMITS
from tests.redteam.honest.oddities import ODDITIES
from tests.redteam.honest.sequences import SEQUENCES
from tests.redteam.honest.starting import STARTING
from tests.redteam.honest.training import TRAINING

CHEATS: list[Variant] = [
    *FUTURE_LEAK,
    *KEPT_STATE,
    *BATCH_LEAK,
    *SCORER_DETECTION,
    *RETURNED_LOGITS,
    *SCORER_PROCESS,
    *COMMON_PARENT,
    *SCORER_RESOURCES,
    *WEIGHTS_FILES,
    *SCORED_CODE,
    *TRAINING_CLOCK,
    *PRIOR_KNOWLEDGE,
    *DATA_ACCESS,
    *gathered(crossing, "CHEATS"),
]
HONEST: list[Variant] = [*MODELS, *TRAINING, *ODDITIES, *SEQUENCES, *MACHINERY, *NEAR_LIMITS, *CRASHES, *STARTING]
ESCAPES: list[Escape] = gathered(attacks, "ATTACKS")
