"""What `--help` says."""

from __future__ import annotations

HELP = """\
Mission control for autonomous research: a researcher reads program.md and your code, states a hypothesis, edits
the code, trains for a fixed time, is scored, and the edit is kept or reverted; for ever. You watch, steer, leave,
come back.

  autoresearch-tui                        attach to what runs here, or set up and start a session
  autoresearch-tui run --headless         the same without a screen: a line for each thing that happens
  autoresearch-tui status                 how far is it?             (--json for scripts)
  autoresearch-tui leaderboard            what was tried, best first
  autoresearch-tui show 12                one experiment: hypothesis, reasoning, diff, runs, verdict
  autoresearch-tui steer "try a smaller batch"
  autoresearch-tui stop                   end it in order; `run` goes on from there
"""
MORE = """\
look          attach [NAME]  replay [NAME]  sessions  status [NAME]  leaderboard [NAME]  events [NAME]
              show EXPERIMENT [NAME]
steer         pause  resume  skip [EXPERIMENT]  stop  steer TEXT  idea TEXT  propose FILE.patch  set KEY=VALUE …
              approve N  reject N  approve-mode on|off  fork N|best  pin N  repeat N  program [NAME]
trust         certify [EXPERIMENT]  reproduce EXPERIMENT
take away     export [NAME]  report [NAME]
set up        init [DIR]  doctor
              `autoresearch-tui COMMAND --help` says more about each, with examples.

keys          In the app: space pauses, i steers, x skips, enter opens an experiment, ? shows all keys, q detaches.
              Leaving never stops the work: q, a closed terminal or a lost connection leave the engine running.

where         PROJECT is a folder with a program.md inside a git repository (default: here).
              Sessions: PROJECT/sessions/NAME/. Kept changes: branch autoresearch/NAME. Your checkout is never touched.
              Sockets and crash notes: ~/.local/state/autoresearch-tui (or $AUTORESEARCH_HOME).
environment   ANTHROPIC_API_KEY makes Claude the researcher, else OPENAI_API_KEY GPT; without a key the control (Optuna)
              works. Keys may stand in ~/.config/autoresearch-tui/keys.toml (chmod 600) instead.
              ANTHROPIC_BASE_URL, OPENAI_BASE_URL (Ollama, vLLM, llama.cpp …), AUTORESEARCH_HOME, NO_COLOR.
exit codes    0 done   1 refused or failed   2 wrong words   3 no such session
"""
_STEER = " Answered accepted or refused, with the reason. --session NAME picks another session than the newest."
TEXTS: dict[str, tuple[str, str]] = {
    "run": (
        "Start a session's engine in the background, and watch it. The engine outlives this terminal: detach with q\n"
        "(or ctrl-c when headless) and come back with `autoresearch-tui`. An existing --session goes on where it was\n"
        "left; without --session a stopped newest session goes on, otherwise a new one begins.",
        "  autoresearch-tui run\n"
        "  autoresearch-tui run --headless --experiments 5 --run-budget 20s\n"
        "  autoresearch-tui run ~/my-model --researcher claude --hours 8 --usd 10\n"
        "  autoresearch-tui run --set decide.keep=3 --set 'sandbox.memory_gb=4'\n\n"
        "--headless exits 0 when the session finished or was stopped in order, 1 when it crashed.",
    ),
    "attach": (
        "Open the app on a session, running or not. With no engine it shows the session as its log has it.",
        "  autoresearch-tui attach\n  autoresearch-tui attach nov23",
    ),
    "replay": (
        "Play a session through the same screens as it happened, faster: space holds, n jumps to the next keep,\n"
        "[ and ] seek, > and < change the speed. `demo` is a recorded session that comes with the program.",
        "  autoresearch-tui replay\n  autoresearch-tui replay nov23 --speed 120\n"
        "  autoresearch-tui replay nov23 --at '#12'\n  autoresearch-tui replay demo",
    ),
    "sessions": ("List this project's sessions, newest first.", "  autoresearch-tui sessions --json"),
    "status": (
        "Say how a session stands: state, best against baseline, counts, what runs, cost. Works without an engine.",
        "  autoresearch-tui status\n  autoresearch-tui status --json | jq .best.metric\n"
        "  autoresearch-tui status --follow     the same, then a plain sentence for each change: for screen readers",
    ),
    "leaderboard": (
        "List what was tried, best first: kept, then provisional, then discarded, then what gave no result.",
        "  autoresearch-tui leaderboard | head\n  autoresearch-tui leaderboard nov23 --json",
    ),
    "events": (
        "Print what happened, a sentence for each event that concerns a person (--json: every event, one a line).",
        "  autoresearch-tui events --follow\n  autoresearch-tui events --json --since 120",
    ),
    "show": (
        "Show one experiment in full: hypothesis, reasoning, diff, runs, verdict and its reason.",
        "  autoresearch-tui show 12\n  autoresearch-tui show 12 nov23 --json",
    ),
    "pause": (
        "Start nothing new; what runs is finished and judged. --now cuts it off, to be run again later." + _STEER,
        "  autoresearch-tui pause\n  autoresearch-tui pause --now",
    ),
    "resume": (
        "Go on after a pause; on a running session: take back `stop --after`. A researcher that could not work (a key\n"
        "was revoked) is connected anew, with the key as it is now in its file." + _STEER,
        "  autoresearch-tui resume",
    ),
    "skip": ("End an experiment now, thinking or running, as skipped." + _STEER, "  autoresearch-tui skip 12"),
    "stop": (
        "End the session's engine once its runs have ended. `autoresearch-tui run` goes on later." + _STEER,
        "  autoresearch-tui stop\n  autoresearch-tui stop --after 3\n  autoresearch-tui stop --now",
    ),
    "steer": (
        "Tell the researcher something: it reads it before its next proposal. Until an experiment has taken it, it\n"
        "can be given other words or withdrawn; what is --standing stays in force until withdrawn." + _STEER,
        '  autoresearch-tui steer "the loss is batch-limited early: try smaller batches"\n'
        '  autoresearch-tui steer --standing "never touch the tokenizer"\n'
        '  autoresearch-tui steer --now "-5% is enough"\n'
        '  autoresearch-tui steer --edit 3 "try larger batches"\n'
        "  autoresearch-tui steer --withdraw 3",
    ),
    "idea": (
        "Queue an idea in words: the next researcher tries it as its experiment. One idea goes to one experiment."
        + _STEER,
        '  autoresearch-tui idea "replace the learning-rate warm-up by a constant"',
    ),
    "propose": (
        "Run an experiment of your own as it is: a patch on what proposals build on now. It is checked, run and\n"
        "judged like every other; one that does not apply or touches read-only files is refused with the place."
        + _STEER,
        '  autoresearch-tui propose wider.patch --hypothesis "width 96 pays for its slower steps"\n'
        '  git diff | autoresearch-tui propose - --hypothesis "no bias terms"',
    ),
    "approve": (
        "Let a proposal that waits for you run (approve-mode on, or approve = true in program.md)." + _STEER,
        "  autoresearch-tui approve 12\n  autoresearch-tui approve 12 --all\n"
        "  autoresearch-tui approve 12 --patch mine.patch",
    ),
    "reject": ("Turn down a proposal that waits for you." + _STEER, '  autoresearch-tui reject 12 --reason "too slow"'),
    "approve-mode": (
        "Let each proposal wait for you before it runs, or no longer: then what waits runs." + _STEER,
        "  autoresearch-tui approve-mode on",
    ),
    "fork": (
        "Build on another experiment from now on, kept or not; `best`: on the best again. What is proposed is judged\n"
        "against the best all the same, and the fork goes on from what is clearly better than its base." + _STEER,
        "  autoresearch-tui fork 12\n  autoresearch-tui fork best",
    ),
    "pin": (
        "Never build on an experiment. A pinned best does not lead: the best of the others does." + _STEER,
        "  autoresearch-tui pin 12\n  autoresearch-tui pin 12 --off",
    ),
    "repeat": (
        "Run an experiment once more with a fresh seed; its results are pooled, its verdict stays." + _STEER,
        "  autoresearch-tui repeat 12",
    ),
    "set": (
        "Change a running session: researcher, model and script from the next experiment on; hours, experiments and\n"
        "usd (what the session may spend); slots (the job of one that goes ends first). The next engine keeps to it."
        + _STEER,
        "  autoresearch-tui set experiments=200 usd=40\n  autoresearch-tui set researcher=claude model=ID\n"
        "  autoresearch-tui set slots=gpu:0,1",
    ),
    "program": (
        "Show what was edited in program.md and takes effect at the next experiment, or why it will not. Works\n"
        "without an engine. Exit 1: it will be refused.",
        "  autoresearch-tui program",
    ),
    "certify": (
        "Test an experiment (default: the best) against the baseline on fresh seeds, the two run side by side, until\n"
        "a one-sided sequential test is sure either way. Writes a certificate to sessions/NAME/certificates/.\n"
        "Exit 0: the gain is certified; 1: it is not. Works on a running session too.",
        "  autoresearch-tui certify\n  autoresearch-tui certify 12",
    ),
    "reproduce": (
        "Run an experiment again from its commit, with its recorded seed and budget, and say whether the result is\n"
        "within the noise (exit 0) or not (1).",
        "  autoresearch-tui reproduce 12",
    ),
    "export": (
        "Write a session's results to files: karpathy's five columns, the chart, or everything as JSON.",
        "  autoresearch-tui export --results results.tsv --plot progress.png\n"
        "  autoresearch-tui export nov23 --json nov23.json\n\nA FILE of - is standard output (--results and --json).",
    ),
    "report": (
        "Write one self-contained HTML page: summary, chart, table, and the diffs of what was kept.",
        "  autoresearch-tui report -o nov23.html",
    ),
    "init": (
        "Set up a project. Writes a commented program.md into DIR, guessing what to edit and run; overwrites nothing.\n"
        "--template nanotrain writes a ready project instead: a small GPT, its scorer, program.md; committed to git.",
        "  autoresearch-tui init\n  autoresearch-tui init ~/nano --template nanotrain && cd ~/nano && autoresearch-tui",
    ),
    "doctor": (
        "Say what is and is not ready here: git, program.md, devices, sandbox, researchers, disk; each with its mend.\n"
        "Exits 0 when nothing essential is missing.",
        "  autoresearch-tui doctor",
    ),
}
