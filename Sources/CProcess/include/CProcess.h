// Starting programs: what posix_spawn can't say (death with the parent, process group, working folder) in one call.
#ifndef FLOW_CPROCESS_H
#define FLOW_CPROCESS_H

#include <sys/types.h>

/// Starts `path` in a process group of its own, in the folder `directory`, with standard output and error going to the
/// descriptor `output` and no standard input. It is killed when the calling thread ends. Its id, or -1 and `error`.
pid_t flow_spawn(const char *path, char *const argv[], char *const envp[], const char *directory, int output, int *error);

/// A pipe whose ends no program inherits by accident: ends[0] to read, ends[1] to write. 0, or -1 and errno.
int flow_pipe(int ends[2]);

/// Linux's syncfs, which its header hides from Swift.
int flow_syncfs(int file);

#endif
