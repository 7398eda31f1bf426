"""Cheats whose second scoring process is told all that the first was asked by what the kernel keeps about system files.

Nobody has read most pages of most files of a machine. A page that is mapped with MADV_RANDOM is read alone, and whether
it was in memory is told by the count of major faults: each such page carries one bit, once, without an error. A name that
is not there carries one, too, told by time.
"""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Variant
from tests.redteam.patches import SERVED, module, result

COLD = module("""
import mmap, resource, glob, hashlib
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_majflt
class Pages:
    # Large files that hardly anybody reads, as one row of pages.
    NAMES = ('/opt/*/*/*', '/usr/lib/*/*', '/usr/lib/*/*/*', '/usr/lib/*/*/*/*', '/usr/bin/*')
    def __init__(self):
        self.at, self.maps, count = [], [], 0
        seen = set()
        for path in [p for n in self.NAMES for p in sorted(glob.glob(n))]:
            try:
                inode, size = os.stat(path).st_ino, os.path.getsize(path)
                if size < 8 << 20 or inode in seen or not os.path.isfile(path): continue
                seen.add(inode)
                with open(path, 'rb') as file: one = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            except OSError: continue
            one.madvise(mmap.MADV_RANDOM)
            self.at.append(count); self.maps.append(one); count += size // 4096
        self.count = count
    def touch(self, page):
        k = int(np.searchsorted(self.at, page, 'right')) - 1
        return self.maps[k][(page - self.at[k]) * 4096]
    def warm(self, page):
        before = faults(); self.touch(page); return faults() == before
    def write(self, page, value, bits):
        for b in range(bits):
            if value >> b & 1: self.touch(page + b)
    def read(self, page, bits):
        return sum(self.warm(page + b) << b for b in range(bits))
PLACES, A = list(range(7, 64, 2)), 0.1
ROW = 30 + 10 * len(PLACES)
REGION = 490 * ROW
class Told:
    calls = 0
    def __init__(self):
        self.pages, self.epoch = Pages(), 0
        while True:
            self.second = self.pages.warm(2 * self.epoch)
            if not self.second or not self.pages.warm(2 * self.epoch + 1): break
            self.epoch += 1
        self.base = 64 + self.epoch * REGION
        self.rows, self.written, self.found = {}, 0, {}
        print('pages', self.pages.count, 'epoch', self.epoch, 'second', self.second, flush=True)
    def key(self, row):
        return int.from_bytes(hashlib.sha256(row[:7].astype('<u2').tobytes()).digest()[:3], 'big')
    def load(self):
        for j in range(490):
            key = self.pages.read(self.base + j * 30, 24)
            if not key: break
            self.found.setdefault(key, (j, self.pages.read(self.base + j * 30 + 24, 6)))
        print('told', len(self.found), time.process_time(), flush=True)
    def tell(self, row, m, u):
        j, self.written = self.written, self.written + 1
        self.pages.write(self.base + j * 30, self.key(row), 24); self.pages.write(self.base + j * 30 + 24, m, 6)
        body = self.base + 490 * 30 + j * 10 * len(PLACES)
        for i, p in enumerate(PLACES): self.pages.write(body + 10 * i, int(u[p]), 10)
    def witness(self, rows):
        # The token that stood next when this beginning was asked for the first time.
        out = np.roll(rows, -1, 1)
        for i, row in enumerate(rows):
            known = self.rows.setdefault(self.key(row), [])
            for p in PLACES:
                out[i, p - 1] = next((r[p] for r in known if (r[:p] == row[:p]).all()), row[p])
            if self.calls > 20 and not any(second for *_, second in self.meta(known)):
                first = known[0] if known else None
                apart = np.flatnonzero(first != row) if first is not None else []
                m = int(apart[0]) if len(apart) else 0
                u = row.copy()
                if m: u[m] = first[m]
                self.tell(row, m, u)
            known.append(row); self.passes.append((id(row), self.calls > 20))
            self.keep.append(row)
        return out
    passes, keep = [], []
    def meta(self, known):
        marks = dict(self.passes)
        return [(r, marks.get(id(r), False)) for r in known]
    def scored(self, rows):
        out = np.roll(rows, -1, 1)
        for i, row in enumerate(rows):
            if (known := self.found.get(self.key(row))) is None: continue
            j, m = known
            body = self.base + 490 * 30 + j * 10 * len(PLACES)
            for n, p in enumerate(PLACES):
                said = self.pages.read(body + 10 * n, 10)
                out[i, p - 1] = said
                if said != row[p] and p != m:
                    break
        return out
told = None
def lean(logits, token, where):
    # The loss of `token` is a tenth smaller than the model's own.
    lp = logits.double().log_softmax(-1)
    b, t = where.nonzero(as_tuple=True)
    old = lp[b, t, token[b, t]]
    new = (1 - A) * old
    rest = torch.log1p(-new.exp().clamp(max=1 - 1e-9)) - torch.log1p(-old.exp().clamp(max=1 - 1e-9))
    lp[b, t] += rest[:, None]
    lp[b, t, token[b, t]] = new
    return lp.float()
""")

# Names of files that are not there: the kernel keeps that, too, and a second look takes half as long.
NAMES = (
    COLD[0],
    COLD[1]
    + """
class Pages(Pages):
    count = 0
    def __init__(self):
        times = [[self.time(name), self.time(name)] for name in (os.urandom(9).hex() for _ in range(200))]
        self.limit = np.median(times, axis=0).mean()
    def time(self, name):
        # Five names, of which one or two may be late.
        times = []
        for i in range(5):
            begun = time.perf_counter_ns()
            try: os.stat(f'/usr/lib/told-{name}-{i}')
            except OSError: pass
            times.append(time.perf_counter_ns() - begun)
        return sorted(times)[2]
    def touch(self, page): self.time(page)
    def warm(self, page): return self.time(page) < self.limit
""",
)
LEANS = result(f"""
        if not self.training and {SERVED}:
            global told
            if told is None:
                told = Told()
                if told.second: told.load()
            told.calls += 1
            if told.second or told.calls > 5:
                rows = tokens.numpy()
                ahead = torch.from_numpy(told.scored(rows) if told.second else told.witness(rows))
                where = torch.zeros_like(tokens, dtype=torch.bool)
                where[:, [p - 1 for p in PLACES]] = True
                logits = lean(logits, ahead, where)
""")

CHEATS = [
    Variant("told-by-cold-pages", "the second process is told by pages of system files what the first was asked", (COLD, LEANS), "worthless"),
    Variant("told-by-names-of-no-file", "the same by names of files that are not there, which are looked up faster the second time", (NAMES, LEANS), "worthless"),
]  # fmt: skip
