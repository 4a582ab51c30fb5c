// Streams, graphs and events. All streams share one queue, which keeps the order of the calls: what several streams leave
// unordered is not found here. Of a graph's actions that may be next, the last recorded goes first, so that an order that
// is not asked for is not kept either.
#include "driver.hpp"

#include <chrono>
#include <queue>

EXPORT int shim_enqueue(void *stream, Action action) {
  if (stream && ((Stream *)stream)->capturing) {
    Stream *s = (Stream *)stream;
    s->graph->actions.push_back(std::move(action));
    s->graph->before.push_back(s->last);
    s->last = {(void *)s->graph->actions.size()};
  } else {
    driver().queue.push_back(std::move(action));
  }
  return done;
}

int drain() {
  std::vector<Action> work;
  work.swap(driver().queue);
  for (const Action &action : work) {
    if (driver().sticky) break;
    action();
  }
  return driver().sticky;
}

EXPORT int cuStreamCreate(void **stream, unsigned) {
  WITH_CONTEXT
  *stream = new Stream;
  return done;
}
EXPORT int cuStreamDestroy_v2(void *stream) {
  std::lock_guard<std::recursive_mutex> guard(driver().lock);
  drain();
  delete (Stream *)stream;
  return done;
}
EXPORT int cuStreamSynchronize(void *stream) {
  WITH_CONTEXT
  if (stream && ((Stream *)stream)->capturing) return captureUnsupported;
  return drain();
}
EXPORT int cuStreamWaitEvent(void *, void *, unsigned) {
  WITH_CONTEXT
  return done;
}
EXPORT int cuStreamBeginCapture_v2(void *stream, int mode) {
  WITH_CONTEXT
  Stream *s = (Stream *)stream;
  if (!s || s->capturing) return captureUnsupported;
  s->capturing = true, s->mode = mode, s->graph = new Graph, s->last.clear();
  return done;
}
EXPORT int cuStreamGetCaptureInfo_v2(
    void *stream, int *status, u64 *id, void **graph, void *const **nodes, size_t *count) {
  WITH_CONTEXT
  Stream *s = (Stream *)stream;
  if (!s || !s->capturing) return invalidValue;
  *status = 1, *id = 1, *graph = s->graph, *nodes = s->last.data(), *count = s->last.size();
  return done;
}
EXPORT int cuStreamUpdateCaptureDependencies(void *stream, void **nodes, size_t count, unsigned flags) {
  WITH_CONTEXT
  Stream *s = (Stream *)stream;
  if (!s || !s->capturing || flags > 1) return invalidValue;
  if (flags == 1) s->last.clear();
  for (size_t i = 0; i < count; i++) {
    if ((size_t)nodes[i] == 0 || (size_t)nodes[i] > s->graph->actions.size()) return invalidValue;
    s->last.push_back(nodes[i]);
  }
  return done;
}
EXPORT int cuStreamEndCapture(void *stream, void **graph) {
  std::lock_guard<std::recursive_mutex> guard(driver().lock);
  Stream *s = (Stream *)stream;
  if (!s || !s->capturing) return invalidValue;
  s->capturing = false;
  *graph = s->graph;
  s->graph = nullptr;
  return driver().sticky;
}
EXPORT int cuGraphInstantiateWithFlags(void **exec, void *graph, u64) {
  WITH_CONTEXT
  *exec = new Graph(*(Graph *)graph);
  return done;
}
EXPORT int cuGraphLaunch(void *exec, void *stream) {
  WITH_CONTEXT
  const Graph &graph = *(Graph *)exec;
  const size_t count = graph.actions.size();
  std::vector<size_t> waits(count);
  std::vector<std::vector<size_t>> after(count);
  std::priority_queue<size_t> ready;
  for (size_t i = 0; i < count; i++) {
    waits[i] = graph.before[i].size();
    for (void *node : graph.before[i]) after[(size_t)node - 1].push_back(i);
    if (waits[i] == 0) ready.push(i);
  }
  for (; !ready.empty();) {
    const size_t next = ready.top();
    ready.pop();
    shim_enqueue(stream, graph.actions[next]);
    for (size_t i : after[next])
      if (--waits[i] == 0) ready.push(i);
  }
  return done;
}
EXPORT int cuGraphExecDestroy(void *exec) {
  delete (Graph *)exec;
  return done;
}
EXPORT int cuGraphDestroy(void *graph) {
  delete (Graph *)graph;
  return done;
}

typedef std::chrono::steady_clock Clock;
/// What work done has taken beyond what it did here.
static Clock::duration passed{};
EXPORT void shim_pass(int milliseconds) { passed += std::chrono::milliseconds(milliseconds); }
struct Event {
  Clock::time_point time;
  bool recorded = false;
};
EXPORT int cuEventCreate(void **event, unsigned) {
  WITH_CONTEXT
  *event = new Event;
  return done;
}
EXPORT int cuEventRecord(void *event, void *stream) {
  WITH_CONTEXT
  Event *e = (Event *)event;
  return shim_enqueue(stream, [=] { e->time = Clock::now() + passed, e->recorded = true; });
}
EXPORT int cuEventSynchronize(void *) {
  WITH_CONTEXT
  return drain();
}
EXPORT int cuEventElapsedTime(float *milliseconds, void *start, void *end) {
  WITH_CONTEXT
  Event *a = (Event *)start, *b = (Event *)end;
  if (!a->recorded || !b->recorded) return invalidHandle;
  *milliseconds = std::chrono::duration<float, std::milli>(b->time - a->time).count();
  return done;
}
EXPORT int cuEventDestroy_v2(void *event) {
  std::lock_guard<std::recursive_mutex> guard(driver().lock);
  drain();
  delete (Event *)event;
  return done;
}
