#include "CMPI.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *handle;

#define FUNCTIONS(X)                                                                                                 \
  X(Get_library_version, int, (char *, int *))                                                                       \
  X(Init_thread, int, (int *, char ***, int, int *))                                                                 \
  X(Comm_set_errhandler, int, (handle, handle))                                                                      \
  X(Comm_rank, int, (handle, int *))                                                                                 \
  X(Comm_size, int, (handle, int *))                                                                                 \
  X(Alltoallv, int,                                                                                                  \
    (const void *, const int *, const int *, handle, void *, const int *, const int *, handle, handle))              \
  X(Allgatherv, int, (const void *, int, handle, void *, const int *, const int *, handle, handle))                  \
  X(Bcast, int, (void *, int, handle, int, handle))                                                                  \
  X(Barrier, int, (handle))                                                                                          \
  X(Abort, int, (handle, int))                                                                                       \
  X(Finalize, int, (void))                                                                                           \
  X(Error_string, int, (int, char *, int *))

#define FIELD(name, result, parameters) result(*name) parameters;
static struct {
  FUNCTIONS(FIELD)
} mpi;
#undef FIELD

static handle world, errors_return, float_type, byte_type;
static char failure[512];
static int is_open;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int own_rank, rank_count;

enum {
  TEXT = 8192,               // more than MPI_MAX_LIBRARY_VERSION_STRING and MPI_MAX_ERROR_STRING
  SERIALIZED = 2,            // MPI_THREAD_SERIALIZED
  OUT_OF_MEMORY = 34,        // MPI_ERR_NO_MEM
  PIECE = 1 << 20,           // floats of a sum that travel at once
  BYTES = 1 << 30,           // bytes of a broadcast that travel at once
};
#define IN_PLACE ((void *)1) // MPI_IN_PLACE

static void open_library(void) {
  static const char *const names[] = {"libmpi.so.40", "libmpi.so"};
  void *library = NULL;
  int used = 0;
  // Global: the modules that it loads itself look for its names.
  for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]) && !library; i++) {
    library = dlopen(names[i], RTLD_NOW | RTLD_GLOBAL);
    if (!library && used < (int)sizeof(failure))
      used += snprintf(failure + used, sizeof(failure) - used, "%s%s", i ? "; " : "", dlerror());
  }
  if (!library) return;
  const struct {
    const char *name;
    handle *place;
  } objects[] = {{"ompi_mpi_comm_world", &world},
                 {"ompi_mpi_errors_return", &errors_return},
                 {"ompi_mpi_float", &float_type},
                 {"ompi_mpi_byte", &byte_type}};
  for (unsigned i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
    if (!(*objects[i].place = dlsym(library, objects[i].name))) {
      snprintf(failure, sizeof(failure), "it has no %s, so it is not Open MPI's", objects[i].name);
      return;
    }
  }
#define LOAD(name, result, parameters)                                                                               \
  if (!(*(void **)&mpi.name = dlsym(library, "MPI_" #name))) {                                                       \
    snprintf(failure, sizeof(failure), "it has no MPI_" #name);                                                      \
    return;                                                                                                          \
  }
  FUNCTIONS(LOAD)
#undef LOAD
  is_open = 1;
}

int flow_mpi_open(char *text, int capacity) {
  pthread_once(&once, open_library);
  if (is_open) return 0;
  snprintf(text, capacity, "%s", failure);
  return -1;
}

void flow_mpi_version(char *text, int capacity) {
  char version[TEXT] = "";
  int length = 0;
  mpi.Get_library_version(version, &length);
  version[strcspn(version, ",\n")] = 0;
  snprintf(text, capacity, "%s", version);
}

int flow_mpi_start(int *rank, int *size) {
  int provided = 0;
  int code = mpi.Init_thread(NULL, NULL, SERIALIZED, &provided);
  if (!code) code = mpi.Comm_set_errhandler(world, errors_return);
  if (!code) code = mpi.Comm_rank(world, &own_rank);
  if (!code) code = mpi.Comm_size(world, &rank_count);
  *rank = own_rank;
  *size = rank_count;
  return code;
}

int flow_mpi_finish(void) { return mpi.Finalize(); }

// Each rank adds up its share of a piece, and the sums are put together: no sum is left to MPI, whose order depends on
// sizes, topology and version.
static int sum_piece(float *values, int count, float *received, int *layout) {
  int n = rank_count;
  int *counts = layout, *places = layout + n, *own_counts = layout + 2 * n, *own_places = layout + 3 * n;
  for (int r = 0; r < n; r++) {
    places[r] = (int)((long)count * r / n);
    counts[r] = (int)((long)count * (r + 1) / n) - places[r];
  }
  int own = counts[own_rank];
  for (int r = 0; r < n; r++) {
    own_counts[r] = own;
    own_places[r] = own * r;
  }
  int code = mpi.Alltoallv(values, counts, places, float_type, received, own_counts, own_places, float_type, world);
  if (code) return code;
  float *sum = values + places[own_rank];
  for (int i = 0; i < own; i++) sum[i] = received[i];
  for (int r = 1; r < n; r++) {
    const float *other = received + (long)own * r;
    for (int i = 0; i < own; i++) sum[i] += other[i];
  }
  return mpi.Allgatherv(IN_PLACE, 0, float_type, values, counts, places, float_type, world);
}

int flow_mpi_sum(float *values, long count) {
  int piece = count < PIECE ? (int)count : PIECE;
  // A rank's share is rounded up, and comes from every rank.
  float *received = malloc(((size_t)piece + rank_count) * sizeof(float));
  int *layout = malloc(4 * (size_t)rank_count * sizeof(int));
  int code = received && layout ? 0 : OUT_OF_MEMORY;
  for (long done = 0; done < count && !code; done += piece) {
    long left = count - done;
    code = sum_piece(values + done, left < piece ? (int)left : piece, received, layout);
  }
  free(received);
  free(layout);
  return code;
}

int flow_mpi_broadcast(void *bytes, long count) {
  int code = 0;
  for (long done = 0; done < count && !code; done += BYTES) {
    long left = count - done;
    code = mpi.Bcast((char *)bytes + done, left < BYTES ? (int)left : BYTES, byte_type, 0, world);
  }
  return code;
}

int flow_mpi_barrier(void) { return mpi.Barrier(world); }

void flow_mpi_abort(int status) { mpi.Abort(world, status); }

void flow_mpi_error(int code, char *text, int capacity) {
  char message[TEXT] = "unknown error";
  int length = 0;
  mpi.Error_string(code, message, &length);
  snprintf(text, capacity, "%s", message);
}
