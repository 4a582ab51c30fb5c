#define _GNU_SOURCE
#include "CProcess.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int flow_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

void flow_one_heap(void) {
#ifdef __GLIBC__
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_TOP_PAD, 4 << 20);
#endif
}

int flow_syncfs(int file) { return syncfs(file); }

// Landlock by number: Linux 5.13 has it, older headers don't. Documentation/userspace-api/landlock.rst of the kernel.
#define LANDLOCK_CREATE_RULESET 444
#define LANDLOCK_ADD_RULE 445
#define LANDLOCK_RESTRICT_SELF 446
#define LANDLOCK_PATH_BENEATH 1
#define LANDLOCK_VERSION_FLAG 1

enum {
  EXECUTE = 1 << 0,
  WRITE_FILE = 1 << 1,
  READ_FILE = 1 << 2,
  READ_DIR = 1 << 3,
  FIRST_VERSION = (1 << 13) - 1,  // these, and making and removing files, folders, links, sockets, pipes, devices
  REFER = 1 << 13,                // version 2
  TRUNCATE = 1 << 14,             // version 3
  READ = EXECUTE | READ_FILE | READ_DIR,
  FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE,  // what may be allowed of something that is no folder
};

struct path_beneath {
  uint64_t allowed;
  int32_t parent;
} __attribute__((packed));

int flow_sandbox_version(void) {
  long version = syscall(LANDLOCK_CREATE_RULESET, NULL, 0, LANDLOCK_VERSION_FLAG);
  return version > 0 ? (int)version : 0;
}

static int allow(int rules, const char *const paths[], uint64_t access) {
  for (; *paths; paths++) {
    struct path_beneath rule = {.allowed = access, .parent = open(*paths, O_PATH | O_CLOEXEC)};
    if (rule.parent < 0) continue;
    struct stat status;
    if (fstat(rule.parent, &status) == 0 && !S_ISDIR(status.st_mode)) rule.allowed &= FILES;
    int failed = syscall(LANDLOCK_ADD_RULE, rules, LANDLOCK_PATH_BENEATH, &rule, 0) != 0;
    int code = errno;
    close(rule.parent);
    errno = code;
    if (failed) return -1;
  }
  return 0;
}

int flow_sandbox(const char *const readable[], const char *const writable[]) {
  int version = flow_sandbox_version();
  if (version == 0) return -1;
  uint64_t handled = FIRST_VERSION | (version >= 2 ? REFER : 0) | (version >= 3 ? TRUNCATE : 0);
  int rules = (int)syscall(LANDLOCK_CREATE_RULESET, &handled, sizeof handled, 0);
  if (rules < 0) return -1;
  if (allow(rules, readable, READ) == 0 && allow(rules, writable, handled) == 0) return rules;
  int code = errno;
  close(rules);
  errno = code;
  return -1;
}

pid_t flow_spawn(const char *path, char *const argv[], char *const envp[], const char *directory, int output,
                 int sandbox, int *error) {
  volatile int failure = 0;
  sigset_t all, old;
  // No handler of ours may run in the child while it shares our memory.
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &old);
  pid_t child = vfork();
  if (child == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int nothing = open("/dev/null", O_RDONLY);
    if (chdir(directory) != 0 || nothing < 0 || dup2(nothing, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0) {
      failure = errno;
      _exit(127);
    }
    if (sandbox >= 0 &&
        (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(LANDLOCK_RESTRICT_SELF, sandbox, 0) != 0)) {
      failure = errno;
      _exit(127);
    }
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, 0);
    execve(path, argv, envp);
    failure = errno;
    _exit(127);
  }
  int code = errno;
  sigprocmask(SIG_SETMASK, &old, 0);
  if (child > 0 && failure == 0) return child;
  *error = child < 0 ? code : failure;
  return -1;
}
