/* A library of CUDA that makes the calls of a real one when it starts: cuInit ends with 304 where one is refused.
   NVIDIA_CALLS chooses them (letters below; without it all); NVIDIA_NEEDS is a file that must be readable; NVIDIA_CODE
   is what cuInit ends with, of the card NVIDIA_ONLY alone where that is given.

   c: names of the own threads   l: a packet socket to listen on   m: a file in memory, mapped
   s: the multi-process service, which is not there   d: the device files, mapped   p: the driver's settings */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static int opened(const char *path, int flags) {
  int fd = open(path, flags | O_CLOEXEC);
  if (fd < 0) return 1;
  close(fd);
  return 0;
}

static int write_name(int flags) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%ld/comm", syscall(SYS_gettid));
  int fd = open(path, flags | O_CLOEXEC), bad = fd < 0 || write(fd, "cuda-EvtHandlr", 14) != 14;
  if (fd >= 0) close(fd);
  return bad;
}

static void *names(void *bad) {
  *(int *)bad = write_name(O_RDWR) || write_name(O_WRONLY | O_TRUNC);
  return NULL;
}

static int own_names(void) {
  int mine = 1, other = 1;
  pthread_t thread;
  names(&mine);
  if (pthread_create(&thread, NULL, names, &other)) return 1;
  int bad = pthread_setname_np(thread, "cuda-EvtHandlr");
  pthread_join(thread, NULL);
  return mine || other || bad == EACCES;
}

static int listening(void) {
  struct stat space;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (stat("/proc/self/ns/pid", &space)) return 1;
  int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "cuda-uvmfd-%lu-%d", space.st_ino, getpid());
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), one = 1;
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one)) return 1;
  return bind(fd, (void *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + length) || listen(fd, 16);
}

static int memory(void) {
  int fd = memfd_create("cuda", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, 4096)) return 1;
  void *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (place == MAP_FAILED) return 1;
  munmap(place, 4096);
  close(fd);
  return 0;
}

static int no_service(void) {
  const char *given = getenv("CUDA_MPS_PIPE_DIRECTORY");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s/control", given ? given : "/tmp/nvidia-mps");
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  int bad = fd < 0 || connect(fd, (void *)&address, sizeof address) == 0 || (errno != ENOENT && errno != ECONNREFUSED);
  if (fd >= 0) close(fd);
  return bad;
}

static int devices(int *count) {
  char path[300];
  struct dirent *entry;
  if (access("/dev/dxg", F_OK) == 0) {  // WSL2
    *count = !opened("/dev/dxg", O_RDWR);
    return 0;
  }
  if (opened("/dev/nvidiactl", O_RDWR) || opened("/dev/nvidia-uvm", O_RDWR)) return 1;
  if (opened("/dev/nvidia-uvm-tools", O_RDWR)) return 1;
  DIR *folder = opendir("/dev");
  while (folder && (entry = readdir(folder)))
    if (!strncmp(entry->d_name, "nvidia", 6) && entry->d_name[6] >= '0' && entry->d_name[6] <= '9') {
      snprintf(path, sizeof path, "/dev/%s", entry->d_name);
      *count += !opened(path, O_RDWR);
    }
  if (folder) closedir(folder);
  return 0;
}

static int found;

int cuInit(unsigned flags) {
  const char *calls = getenv("NVIDIA_CALLS"), *needs = getenv("NVIDIA_NEEDS"), *code = getenv("NVIDIA_CODE");
  const char *seen = getenv("CUDA_VISIBLE_DEVICES"), *only = getenv("NVIDIA_ONLY");
  if (code && atoi(code) && (!only || (seen && !strcmp(seen, only)))) return atoi(code);
  if (!calls) calls = "clmsdp";
  if (needs && opened(needs, O_RDONLY)) return 304;
  if (strchr(calls, 'c') && own_names()) return 304;
  if (strchr(calls, 'l') && listening()) return 304;
  if (strchr(calls, 'm') && memory()) return 304;
  if (strchr(calls, 's') && no_service()) return 304;
  if (strchr(calls, 'p') && opened("/proc/driver/nvidia/params", O_RDONLY) && errno != ENOENT) return 304;
  found = !strchr(calls, 'd');
  if (!found && devices(&found)) return 304;
  return found ? 0 : 100;
}

int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuDeviceGetCount(int *count) { *count = found; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &found; return device ? 101 : 0; }
int cuDevicePrimaryCtxRelease(int device) { return 0; }
int cuGetErrorName(int code, const char **text) {
  *text = code == 304 ? "CUDA_ERROR_OPERATING_SYSTEM" : code == 100 ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR";
  return 0;
}
int cuGetErrorString(int code, const char **text) {
  *text = code == 304 ? "OS call failed or operation not supported on this OS" : "no CUDA-capable device is detected";
  return 0;
}
