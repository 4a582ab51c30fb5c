// A stand-in for NCCL between processes of one machine, over shared memory. Sums are added in the order of the ranks. Work is put
// on the stream and done when the stand-in driver does it, so that what was not waited for shows; ranks whose calls don't
// fit each other get an error instead of waiting for ever, and so do those whose peer has gone.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))
typedef unsigned long long u64;
extern "C" int shim_enqueue(void *stream, std::function<void()> action);
extern "C" bool shim_is_device(u64 address, size_t bytes);
extern "C" int shim_device();

// ncclResult_t, ncclDataType_t, ncclRedOp_t
enum { success = 0, systemError = 2, internalError = 3, invalidArgument = 4, invalidUsage = 5, remoteError = 6 };
enum { uint32 = 3, float32 = 7 };
enum { sum = 0 };
enum Kind { reduce, allReduce, broadcast };

namespace {
constexpr int mostRanks = 16;
/// Elements that travel at once.
constexpr size_t piece = 1 << 16;

struct Call {
  int kind, type, owner;
  size_t count;
  bool operator==(const Call &o) const {
    return kind == o.kind && type == o.type && owner == o.owner && count == o.count;
  }
};

/// What the ranks share.
struct Board {
  std::atomic<int> arrived, failure;
  std::atomic<unsigned> round;
  std::atomic<int> processes[mostRanks];
  std::atomic<int> devices[mostRanks];
  Call calls[mostRanks];
  unsigned values[mostRanks][piece];
};

struct Ranks {
  Board *board;
  int rank, size;
  std::atomic<int> failure{success};
};

struct Operation {
  Call call;
  u64 from, to;
};

thread_local int depth = 0;
thread_local std::vector<std::pair<Ranks *, std::pair<void *, Operation>>> grouped;
std::string last;

int fail(Ranks *ranks, int status, const std::string &why) {
  last = why;
  fprintf(stderr, "nccl shim: %s\n", why.c_str());
  if (ranks) ranks->failure = status;
  return status;
}

/// Waits for all ranks; false when one has gone, or they have failed.
bool meet(Ranks *ranks) {
  Board &board = *ranks->board;
  if (board.failure) return ranks->failure = board.failure.load(), false;
  const unsigned round = board.round;
  if (board.arrived.fetch_add(1) + 1 == ranks->size) {
    board.arrived = 0;
    board.round++;
    return true;
  }
  for (long turn = 0; board.round == round; turn++) {
    if (board.failure) return ranks->failure = board.failure.load(), false;
    usleep(turn < 200 ? 20 : 500);
    for (int i = 0; turn % 200 == 199 && i < ranks->size; i++) {
      if (kill(board.processes[i], 0) == 0 || errno != ESRCH) continue;
      board.failure = remoteError;
      return fail(ranks, remoteError, "rank " + std::to_string(i) + " has gone"), false;
    }
  }
  return true;
}

/// One call on this rank. A rank that has failed leaves no numbers where its result should be.
void perform(Ranks *ranks, const Operation &operation) {
  Board &board = *ranks->board;
  const Call &call = operation.call;
  const bool takes = call.kind != reduce || call.owner == ranks->rank;
  auto give = [&](size_t start, const unsigned *values, size_t count) {
    if (takes) memcpy((unsigned *)operation.to + start, values, count * 4);
  };
  auto spoil = [&] {
    if (takes) memset((void *)operation.to, 0xff, call.count * 4);
  };
  static const char *fault = getenv("FLOW_SHIM_FAULT");
  static int calls = 0;
  if (fault && !strncmp(fault, "rank-lost-at=", 13) && ++calls > atoi(fault + 13))
    fail(ranks, remoteError, "a rank is lost, as FLOW_SHIM_FAULT asks");
  if (ranks->failure) return spoil();
  board.calls[ranks->rank] = call;
  if (!meet(ranks)) return spoil();
  for (int i = 0; i < ranks->size; i++) {
    if (board.calls[i] == call) continue;
    board.failure = invalidUsage;
    fail(ranks, invalidUsage, "ranks " + std::to_string(i) + " and " + std::to_string(ranks->rank) +
        " make calls that don't fit each other");
    return spoil();
  }
  std::vector<unsigned> result(piece);
  for (size_t start = 0; start < call.count; start += piece) {
    const size_t count = std::min(piece, call.count - start);
    if (call.kind != broadcast || call.owner == ranks->rank)
      memcpy(board.values[ranks->rank], (const unsigned *)operation.from + start, count * 4);
    if (!meet(ranks)) return spoil();
    if (call.kind == broadcast) {
      memcpy(result.data(), board.values[call.owner], count * 4);
    } else {
      for (size_t i = 0; i < count; i++) {
        float total;
        memcpy(&total, &board.values[0][i], 4);
        for (int rank = 1; rank < ranks->size; rank++) {
          float next;
          memcpy(&next, &board.values[rank][i], 4);
          total += next;
        }
        memcpy(&result[i], &total, 4);
      }
    }
    if (!meet(ranks)) return spoil();
    give(start, result.data(), count);
  }
  // The next call's words are written when all have read these.
  if (!meet(ranks)) spoil();
}

int submit(Ranks *ranks, void *stream, const Operation &operation) {
  const size_t bytes = operation.call.count * 4;
  const bool sends = operation.call.kind != broadcast || operation.call.owner == ranks->rank;
  const bool takes = operation.call.kind != reduce || operation.call.owner == ranks->rank;
  if (operation.call.owner < 0 || operation.call.owner >= ranks->size)
    return fail(nullptr, invalidArgument, "there is no such rank");
  if ((sends && !shim_is_device(operation.from, bytes)) || (takes && !shim_is_device(operation.to, bytes)))
    return fail(nullptr, invalidArgument, "a buffer is not in the device's memory");
  if (depth) {
    grouped.push_back({ranks, {stream, operation}});
    return success;
  }
  return shim_enqueue(stream, [=] { perform(ranks, operation); }) ? internalError : success;
}
}  // namespace

EXPORT int ncclGetVersion(int *version) {
  *version = 22999;
  return success;
}
EXPORT const char *ncclGetErrorString(int status) {
  switch (status) {
    case success: return "no error";
    case invalidArgument: return "invalid argument";
    case invalidUsage: return "invalid usage";
    case remoteError: return "remote process exited or there was a network error";
    default: return "internal error";
  }
}
EXPORT const char *ncclGetLastError(void *) { return last.c_str(); }

EXPORT int ncclGetUniqueId(char *id) {
  memset(id, 0, 128);
  std::string name = "/flow-nccl-shim." + std::to_string(getpid()) + "." + std::to_string(rand());
  memcpy(id, name.data(), name.size());
  int file = shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  if (file < 0 || ftruncate(file, sizeof(Board))) return fail(nullptr, systemError, "no shared memory");
  close(file);
  return success;
}

struct Identity {
  char name[128];
};
EXPORT int ncclCommInitRank(void **result, int size, Identity identity, int rank) {
  if (size < 1 || size > mostRanks || rank < 0 || rank >= size) return fail(nullptr, invalidArgument, "no such rank");
  int file = shm_open(identity.name, O_RDWR, 0600);
  void *memory = file < 0 ? MAP_FAILED : mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) return fail(nullptr, systemError, "no shared memory");
  close(file);
  Ranks *ranks = new Ranks{(Board *)memory, rank, size};
  Board &board = *ranks->board;
  board.devices[rank] = shim_device() + 1;
  board.processes[rank] = getpid();
  // Until all are here nobody can say who has gone.
  for (int i = 0; i < size; i++)
    while (!board.processes[i]) usleep(200);
  if (!meet(ranks)) return ranks->failure;
  if (rank == 0) shm_unlink(identity.name);
  for (int i = 0; i < size; i++)
    if (i != rank && board.devices[i] == board.devices[rank])
      return fail(ranks, invalidUsage, "Duplicate GPU detected");
  *result = ranks;
  return success;
}
EXPORT int ncclCommDestroy(void *) { return success; }
EXPORT int ncclCommAbort(void *handle) {
  ((Ranks *)handle)->board->failure = remoteError;
  return success;
}
EXPORT int ncclCommGetAsyncError(void *handle, int *status) {
  *status = ((Ranks *)handle)->failure;
  return success;
}

EXPORT int ncclGroupStart() {
  depth++;
  return success;
}
EXPORT int ncclGroupEnd() {
  if (depth == 0) return fail(nullptr, invalidUsage, "no group was begun");
  if (--depth) return success;
  auto all = std::move(grouped);
  grouped.clear();
  // A group is one piece of work.
  if (all.empty()) return success;
  return shim_enqueue(all[0].second.first, [=] {
    for (auto &one : all) perform(one.first, one.second.second);
  }) ? internalError : success;
}

EXPORT int ncclReduce(u64 from, u64 to, size_t count, int type, int op, int owner, void *ranks, void *stream) {
  if (!ranks || op != sum || type != float32) return invalidArgument;
  return submit((Ranks *)ranks, stream, {{reduce, type, owner, count}, from, to});
}
EXPORT int ncclAllReduce(u64 from, u64 to, size_t count, int type, int op, void *ranks, void *stream) {
  if (!ranks || op != sum || type != float32) return invalidArgument;
  return submit((Ranks *)ranks, stream, {{allReduce, type, 0, count}, from, to});
}
EXPORT int ncclBroadcast(u64 from, u64 to, size_t count, int type, int owner, void *ranks, void *stream) {
  if (!ranks || (type != uint32 && type != float32)) return invalidArgument;
  return submit((Ranks *)ranks, stream, {{broadcast, type, owner, count}, from, to});
}
