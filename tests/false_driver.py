"""A driver of NVIDIA made for tests: libnvidia-ml and libcuda for four cards, which a file breaks and repairs."""

from __future__ import annotations

import atexit
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from core.lab.gpu.card_locks import FOLDER

# Both libraries read the file STATE at each call: words such as `lost=1` (the card 1 does not answer), `cuda=999` (CUDA
# does not start), `only=0` (that on card 0 alone), `ecc=2`, `free=1`, `driver=18`. UUIDs end with MACHINE.
STATE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static long said(const char *key, long otherwise) {
  char word[200];
  FILE *file = fopen(STATE, "r");
  while (file && fscanf(file, "%199s", word) == 1)
    if (!strncmp(word, key, strlen(key)) && word[strlen(key)] == '=') otherwise = atol(word + strlen(key) + 1);
  if (file) fclose(file);
  return otherwise;
}
"""
NVML = r"""
static const char *uuids[] = {"GPU-aaaa0000-1111-0000-0000-" MACHINE "1", "GPU-aaaa0000-2222-0000-0000-" MACHINE "2",
                              "GPU-cccc0000-3333-0000-0000-" MACHINE "3", "GPU-dddd0000-4444-0000-0000-" MACHINE "4"};
static const char *part = "MIG-3f2a91bc-0000-5555-0000-" MACHINE "5";
static long generation;  // of the driver; after another one was loaded, what was asked of this one is void
static int number(void *device) {
  for (int i = 0; i < 4; i++) if (device == (void *)(uuids[i] + generation)) return i;
  return -1;
}
static int fault(void *device) {
  if (said("driver", 0)) return said("driver", 0);
  if (said("generation", 0) != generation) return 1;
  return number(device) < 0 ? 2 : said("lost", -1) == number(device) ? 15 : 0;
}
int nvmlInitWithFlags(unsigned flags) { generation = said("generation", 0); return said("driver", 0); }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "550.54"); return 0; }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 12040; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = said("count", 4); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  *device = (void *)(uuids[index] + generation);
  return fault(*device);
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
  for (int i = 0; i < said("count", 4); i++) if (!strcmp(uuids[i], uuid)) {
    *device = (void *)(uuids[i] + generation);
    return fault(*device);
  }
  return 6;
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
  if (device == (void *)part) snprintf(text, size, "%s", part);
  else if (fault(device)) return fault(device);
  else snprintf(text, size, "%s", uuids[number(device)]);
  return 0;
}
int nvmlDeviceGetName(void *device, char *text, unsigned size) {
  snprintf(text, size, "Simulated");
  return fault(device);
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
  *major = 9;
  *minor = 0;
  return fault(device);
}
int nvmlDeviceGetMinorNumber(void *device, unsigned *minor) { *minor = 7 - number(device); return fault(device); }
typedef struct { unsigned long long total, free, used; } Memory;
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
  memory->total = 24L << 30;
  memory->free = said("free", 23) << 30;
  memory->used = memory->total - memory->free;
  return fault(device);
}
int nvmlDeviceGetUtilizationRates(void *device, unsigned *rates) { rates[0] = 97; rates[1] = 5; return fault(device); }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) { *reasons = 4; return 0; }
int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, unsigned long long *count) {
  *count = said("ecc", 0);
  return fault(device);
}
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) { *count = number(device) == 3; return 0; }
int nvmlDeviceGetGpuInstanceId(void *device, unsigned *number) { *number = 1; return device == part ? 0 : 3; }
int nvmlDeviceGetComputeInstanceId(void *device, unsigned *number) { *number = 0; return device == part ? 0 : 3; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **found) { *found = (void *)part; return 0; }
"""
CUDA = r"""
static int code(void) {
  const char *seen = getenv("CUDA_VISIBLE_DEVICES");
  char uuid[] = "GPU-aaaa0000-1111";  // of card 0, beside one that does not answer
  if (said("only", -1) >= 0 && seen && atoi(seen) != said("only", -1) && strncmp(seen, uuid, 17)) return 0;
  return said("cuda", 0);
}
int cuInit(unsigned flags) { return code(); }
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &cuInit; return 0; }
int cuDevicePrimaryCtxRelease(int device) { return 0; }
int cuGetErrorName(int code, const char **text) { *text = code == 999 ? "CUDA_ERROR_UNKNOWN" : "CUDA_ERROR"; return 0; }
int cuGetErrorString(int code, const char **text) { *text = code == 999 ? "unknown error" : "some error"; return 0; }
"""


class FalseDriver:
    """The libraries in a folder, to be put on LD_LIBRARY_PATH; `say` breaks and repairs their cards. `machine`: 11
    digits of their UUIDs; "": no other driver has these cards. Skips the test where there is no gcc.
    """

    def __init__(self, folder: Path, machine: str = "") -> None:
        if shutil.which("gcc") is None:
            pytest.skip("no gcc to make a driver's libraries with")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.state = folder / "state"
        self.say("")
        machine = self.machine = machine or secrets.token_hex(6)[1:]
        for name, text in (("libnvidia-ml.so.1", NVML), ("libcuda.so.1", CUDA)):
            source = folder / f"{name}.c"
            source.write_text(STATE + text)
            subprocess.run(
                ["gcc", f'-DSTATE="{self.state}"', f'-DMACHINE="{machine}"', "-w", "-shared", "-fPIC", "-o",
                 str(folder / name), str(source)], check=True, timeout=60,
            )  # fmt: skip
        atexit.register(self.forget)

    def forget(self) -> None:
        """Remove the files of locks on these cards."""
        for lock in FOLDER.glob(f"*-{self.machine}*"):
            lock.unlink(missing_ok=True)

    def say(self, words: str) -> None:
        """Have the cards be so from now on; "": all work."""
        new = self.state.with_suffix(".new")
        new.write_text(words)
        new.replace(self.state)
