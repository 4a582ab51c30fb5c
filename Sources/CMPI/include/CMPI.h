// Open MPI, opened when several ranks work together: flow builds and runs without it. Its header isn't needed: what a
// program names MPI_COMM_WORLD and the like are the addresses of exported objects, the same in all of Open MPI 1.3 to 5.
// MPICH and its kin use numbers instead, and are refused.
#ifndef FLOW_CMPI_H
#define FLOW_CMPI_H

/// Opens the library. 0, or -1 when it can't; then `text` (of `capacity` bytes) says why, with every name tried.
int flow_mpi_open(char *text, int capacity);

/// The library's version in a line, once it is open.
void flow_mpi_version(char *text, int capacity);

// What follows is 0, or MPI's error code, which flow_mpi_error explains. Not to be called by two threads at once.

/// Joins the other ranks. Errors are returned from then on, where MPI would end the process.
int flow_mpi_start(int *rank, int *size);

/// Leaves them, when all have come here.
int flow_mpi_finish(void);

/// Replaces each of `count` values by its sum over the ranks, added in their order, whatever way the bytes take: every rank
/// gets the same bits, and the same ones each time. Travels in pieces of 4 MiB.
int flow_mpi_sum(float *values, long count);

/// Gives all ranks the `count` bytes that rank 0 has.
int flow_mpi_broadcast(void *bytes, long count);

/// Waits for all ranks.
int flow_mpi_barrier(void);

/// Ends all ranks; any thread may call it.
void flow_mpi_abort(int status);

/// What an error code means.
void flow_mpi_error(int code, char *text, int capacity);

#endif
