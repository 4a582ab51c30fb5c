// Starting programs: what posix_spawn can't say (death with the parent, process group, working folder) in one call.
#ifndef FLOW_CPROCESS_H
#define FLOW_CPROCESS_H

#include <stddef.h>
#include <sys/types.h>

/// Starts `path` in a process group of its own, in the folder `directory`, with standard output and error going to the
/// descriptor `output` and no standard input. It is killed when the calling thread ends. It and what it starts see only
/// what `sandbox` (of `flow_sandbox`, or -1: none) allows. Its id, or -1 and `error`.
pid_t flow_spawn(const char *path, char *const argv[], char *const envp[], const char *directory, int output,
                 int sandbox, int *error);

/// A set of rules of the kernel's Landlock: files below `readable` may be read and executed, files below `writable` also
/// written, made and removed; nothing else may be opened. Both lists end with NULL; paths that aren't there are left out.
/// A descriptor to be closed, or -1 and errno where the kernel has no Landlock (before 5.13, or turned off).
int flow_sandbox(const char *const readable[], const char *const writable[]);

/// The version of the kernel's Landlock interface; 0 where it has none.
int flow_sandbox_version(void);

/// A pipe whose ends no program inherits by accident: ends[0] to read, ends[1] to write. 0, or -1 and errno.
int flow_pipe(int ends[2]);

/// All threads share one heap, which grows by megabytes.
void flow_one_heap(void);

/// Linux's syncfs, which its header hides from Swift.
int flow_syncfs(int file);

/// Maps the first `count` bytes of an open file for reading; NULL and errno when that can't be done. Where the file is
/// cut short later, reading gives zeros and marks the mapping as torn, instead of ending the process.
const void *flow_map(int file, size_t count);

/// Whether something was read that was no longer there.
int flow_map_is_torn(const void *base);

/// Ends a mapping.
void flow_unmap(const void *base, size_t count);

#endif
