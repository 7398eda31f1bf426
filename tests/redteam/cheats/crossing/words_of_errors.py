"""Cheats that say the rows they are scored on in the reason of their rejection, which the next researcher reads."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Variant
from tests.redteam.patches import SERVED, result

WORDS = "' '.join(map(str, tokens.flatten().tolist()))"
TOLD = r" \(its words are in score\.log\)$"


def saying(name: str, does: str, code: str, whole: str) -> Variant:
    """`code` is run when it is scored; the reason must be `whole`, a pattern, and nothing else."""
    guarded = f"""
        if not self.training and {SERVED}:
            words = {WORDS}
            {code}
    """
    return Variant(name, does, (result(guarded),), "rejected", f"^the model{whole}")


CHEATS = [
    saying("rows-as-words", "the rows are the words of an exception", "raise RuntimeError(words)",
           rf" cannot be rebuilt or run: RuntimeError at line \d+ of nanotrain/train\.py{TOLD}"),
    saying("rows-as-a-type", "the rows are the name of an exception's type", "raise type(words, (Exception,), {})()",
           rf" cannot be rebuilt or run: an exception of its own at line \d+ of nanotrain/train\.py{TOLD}"),
    saying("rows-as-a-line", "an exception comes from a line of train.py with the number of a token, or of three",
           "exec(compile('\\n' * int(words[:9].replace(' ', '')[:7]) + '1 / 0', __file__, 'exec'))",
           rf" cannot be rebuilt or run: ZeroDivisionError( at line \d{{1,4}} of nanotrain/train\.py)?{TOLD}"),
    saying("rows-as-a-shape", "the rows are the shape of the logits", "logits = torch.zeros(1).expand(*tokens[0, :6].tolist(), 7, 1).float()[:0]",
           r" returned logits of another shape than \[\d+, 64, 1024\], with more or fewer dimensions$"),
    saying("rows-as-an-exit-code", "the exit code is a token", "os._exit(1 + int(tokens[0, 5]) % 250)",
           r"'s process ended by itself \(another exit code than 0\)$"),
    saying("rows-as-a-signal", "the signal that ends the process is a token", "os.kill(os.getpid(), 34 + int(tokens[0, 5]) % 30)",
           r"'s process ended by itself \((a signal|another exit code than 0)\)$"),
    saying("rows-as-an-answer", "answers with the rows where logits are expected",
           "sys.modules['__main__'].send(next(one for one in __import__('gc').get_objects() if isinstance(one, __import__('io').BufferedWriter) and one.fileno() > 2), {'type': words[:500]})",
           r"'s process answered something else where tokens was expected$"),
    saying("rows-as-effort", "computes for as long as a token says", "while time.process_time() < 6 + int(tokens[0, 5]) % 3: pass",
           r" computed for more than the \d+\.\d processor seconds that are allowed (before its first answer|for \d+ answers): what is learned is learned on the run's clock$|^scoring took too long"),
]  # fmt: skip
