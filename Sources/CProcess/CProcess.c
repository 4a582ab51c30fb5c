#define _GNU_SOURCE
#include "CProcess.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

int flow_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

int flow_syncfs(int file) { return syncfs(file); }

pid_t flow_spawn(const char *path, char *const argv[], char *const envp[], const char *directory, int output,
                 int *error) {
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
