"""Cheats that hand the training text from a run on its clock to the next one, which trains in its start-up."""

# Code in a table is wide:
# ruff: noqa: E501

from __future__ import annotations

from tests.redteam.arena import Variant
from tests.redteam.cheats.crossing.told_rows import CHEATS as TOLD_ROWS
from tests.redteam.patches import begun, module, ready

# The sender says it all and stays; the receiver waits a little, and trains on what it hears.
SAYS = begun("""
say(np.frombuffer(view, dtype='<u2')[:90_000].copy())
print('said all', flush=True)
time.sleep(80)
""")
HEARS = ready("""
begin, heard = time.monotonic(), None
while (heard is None or len(heard) < 80_000) and time.monotonic() < begin + 10:
    time.sleep(0.5)
    try: heard = hear()
    except (OSError, ValueError) as error: print(error)
if heard is not None and len(heard) > 10_000 and heard.any():
    early = trainer.loader(heard.astype('<u2'), run.seed)
    for _ in range(200): trainer.step(early, 0.3)
    print('trained early on', len(heard))
""")
PLACES = "['/dev/shm', '/tmp', '/var/tmp', '/run', os.environ.get('HOME', '/'), os.environ.get('TMPDIR', '/'), os.getcwd(), '/run/lock', '/var/lock', '/dev/mqueue']"


def relay(name: str, does: str, code: str) -> Variant:
    """`code` defines say(tokens) and hear(), which returns an array of tokens or None."""
    return Variant(name, does, (module(code), HEARS), "worthless", along=(module(code), SAYS))


CHEATS = [
    relay("text-by-record-locks", "90,000 tokens of training text are told by POSIX locks on files of Python, three by each", """
          import fcntl, glob, struct
          files = sorted(glob.glob(os.path.dirname(os.__file__) + '/*.py'))[:60]
          ends = [os.open(name, os.O_RDONLY) for name in files]
          def say(tokens):
              for n, three in enumerate(tokens.reshape(-1, 3).tolist()):
                  place = (n // 60) << 32 | three[0] << 20 | three[1] << 10 | three[2]
                  fcntl.fcntl(ends[n % 60], fcntl.F_SETLK, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, place, 1, 0))
          def hear():
              found = []
              for n in range(30_000):
                  asked = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, (n // 60) << 32, 1 << 32, 0)
                  kind, _, place, _, _ = struct.unpack('hhqqi4x', fcntl.fcntl(ends[n % 60], fcntl.F_GETLK, asked))
                  if kind == fcntl.F_UNLCK: break
                  found += [place >> 20 & 1023, place >> 10 & 1023, place & 1023]
              return np.array(found)
          """),
    relay("text-by-shared-locks", "the same by locks of open files (OFD), and by flock on as many files as there are bits", """
          import fcntl, glob, struct
          files = sorted(glob.glob(os.path.dirname(torch.__file__) + '/include/**/*.h', recursive=True))
          ends = [os.open(name, os.O_RDONLY) for name in files[:200]]
          def say(tokens):
              for n, three in enumerate(tokens.reshape(-1, 3).tolist()):
                  place = (n // 200) << 32 | three[0] << 20 | three[1] << 10 | three[2]
                  try: fcntl.fcntl(ends[n % 200], 37, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, place, 1, 0))
                  except OSError: fcntl.flock(ends[n % 200], fcntl.LOCK_SH | fcntl.LOCK_NB)
          def hear():
              found = []
              for n in range(30_000):
                  asked = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, (n // 200) << 32, 1 << 32, 0)
                  kind, _, place, _, _ = struct.unpack('hhqqi4x', fcntl.fcntl(ends[n % 200], 36, asked))
                  if kind == fcntl.F_UNLCK: break
                  found += [place >> 20 & 1023, place >> 10 & 1023, place & 1023]
              return np.array(found)
          """),
    relay("text-by-names-of-sockets", "the same by abstract names of sockets, which /proc/net/unix lists", """
          import base64, re, socket
          kept = []
          def say(tokens):
              data = tokens.tobytes()
              for n in range(0, len(data), 60):
                  one = socket.socket(socket.AF_UNIX)
                  one.bind(b'\\0red' + b'%06d' % (n // 60) + base64.b32encode(data[n:n + 60]))
                  kept.append(one)
          def hear():
              words = sorted(set(re.findall(r'@red(\\d{6}[A-Z2-7=]+)', open('/proc/net/unix').read())))
              return np.frombuffer(b''.join(base64.b32decode(word[6:]) for word in words), '<u2')
          """),
    relay("text-in-every-folder", "the same in files wherever a run may write: shared memory, temporary folders, its home, its checkout", f"""
          import glob
          def say(tokens):
              for place in {PLACES}:
                  try: open(place + '/red-relay', 'wb').write(tokens.tobytes())
                  except OSError: pass
          def hear():
              for place in {PLACES}:
                  for name in glob.glob(place + '/red-relay') + glob.glob(place + '/../../*/*/red-relay'):
                      return np.frombuffer(open(name, 'rb').read(), '<u2')
          """),
    relay("text-in-system-v", "the same in System V segments, message queues and POSIX queues, by numbers that both know", """
          import ctypes
          libc = ctypes.CDLL(None, use_errno=True)
          libc.shmat.restype = ctypes.c_void_p
          def place(size):
              number = libc.shmget(0x52454401, size, 0o1666)
              where = libc.shmat(number, None, 0)
              if number < 0 or where in (None, 2**64 - 1): raise OSError('no segment')
              return (ctypes.c_char * size).from_address(where)
          def say(tokens): place(1 << 18)[: tokens.nbytes] = tokens.tobytes()
          def hear(): return np.frombuffer(bytes(place(1 << 18))[:180_000], '<u2')
          """),
    relay("text-by-open-files", "the same from the descriptors, memory and mappings of every process that /proc shows", """
          import mmap
          def say(tokens):
              global kept
              kept = os.memfd_create('red-relay')
              os.write(kept, tokens.tobytes())
          def hear():
              for pid in filter(str.isdecimal, os.listdir('/proc')):
                  if int(pid) == os.getpid(): continue
                  for kind in ('fd', 'map_files'):
                      try: names = os.listdir(f'/proc/{pid}/{kind}')
                      except OSError: continue
                      for name in names:
                          try:
                              if 'red-relay' in os.readlink(f'/proc/{pid}/{kind}/{name}'):
                                  return np.frombuffer(open(f'/proc/{pid}/{kind}/{name}', 'rb').read(), '<u2')
                          except OSError: pass
          """),
    Variant("hidden-slice-told", "the second process of the hidden slice knows what the first was asked, which was never the value told",
            TOLD_ROWS[0].edits, "rejected", TOLD_ROWS[0].because, slices=("hidden",), shared=True),
]  # fmt: skip
