"""State as tables, series and sentences, for screen, terminal, report and prompt. Pure"""

from core.text import clean, one_line, plural
from core.views.chart import Chart, ChartDot, best_steps, chart
from core.views.costs import Costs, Share, costs
from core.views.curves import Forecast, difference, forecast, loss_at, speed
from core.views.device_use import SHOWN, DeviceUse, device_use, held_seconds
from core.views.lineage import LineageRow, lineage
from core.views.next_step import next_step, without_hint
from core.views.search import search
from core.views.signs import SIGNS, role, sign, to_ascii
from core.views.story import Away, away, in_short, sentence, show
from core.views.tables import (
    FAILED_START,
    ExperimentRow,
    baseline_failed,
    leaderboard,
    phase_word,
    progress,
    ranked,
    results_tsv,
    rows,
    run_word,
    session_word,
    status,
    waiting,
    why_failed,
)
from core.views.trial_words import TrialLine, trial_lines, trial_progress, trial_verdict
from core.views.trust import noise_words, trust_lines
