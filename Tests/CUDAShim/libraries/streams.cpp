// Streams, graphs and events. A stream's work is done when something waits for it, and before that only what others that
// are waited for wait for, so that a wait that is missing shows; with FLOW_SHIM_STREAMS=eager, that of streams beside the
// first is done as soon as it may be instead. Of a graph's actions that may be next, the last recorded goes first, so that
// an order that is not asked for is not kept either.
#include "driver.hpp"

#include <chrono>
#include <queue>

typedef std::chrono::steady_clock Clock;
/// What work done has taken beyond what it did here.
static Clock::duration passed{};
EXPORT void shim_pass(int milliseconds) { passed += std::chrono::milliseconds(milliseconds); }
struct Event {
  Clock::time_point time;
  /// Recordings that were asked for, and those done.
  u64 asked = 0, done = 0;
  Stream *stream = nullptr;
};

static Stream *named(void *stream) { return stream ? (Stream *)stream : driver().streams[0]; }

/// Does the stream's work until it is done, has to wait, or `event` has that recording; whether anything was done.
static bool advance(Stream *stream, const Event *event = nullptr, u64 recording = 0) {
  bool any = false;
  while (!stream->queue.empty() && !(event && event->done >= recording)) {
    Item item = stream->queue.front();
    if (item.event && item.event->done < item.recording && !driver().sticky) break;
    stream->queue.pop_front();
    if (item.action && !driver().sticky) item.action();
    any = true;
  }
  return any;
}

/// Does the stream's work up to that recording, or all.
static int finish(Stream *stream, const Event *event, u64 recording) {
  while (!stream->queue.empty() && !(event && event->done >= recording)) {
    if (advance(stream, event, recording)) continue;
    const Item item = stream->queue.front();
    finish(item.event->stream, item.event, item.recording);
  }
  return driver().sticky;
}
int finish(void *stream) { return finish(named(stream), nullptr, 0); }

int drain() {
  for (size_t i = driver().streams.size(); i-- > 0;) finish(driver().streams[i], nullptr, 0);
  return driver().sticky;
}

static void put(void *stream, Item item) {
  static const bool eager = getenv("FLOW_SHIM_STREAMS") && !strcmp(getenv("FLOW_SHIM_STREAMS"), "eager");
  Stream *s = named(stream);
  s->queue.push_back(std::move(item));
  if (eager)
    for (size_t i = 2; i < driver().streams.size(); i++) advance(driver().streams[i]);
}

EXPORT int shim_enqueue(void *stream, Action action) {
  if (stream && ((Stream *)stream)->capturing) {
    Stream *s = (Stream *)stream;
    s->graph->actions.push_back(std::move(action));
    s->graph->before.push_back(s->last);
    s->last = {(void *)s->graph->actions.size()};
  } else {
    put(stream, {std::move(action)});
  }
  return done;
}

EXPORT int cuStreamCreate(void **stream, unsigned) {
  WITH_CONTEXT
  Stream *made = new Stream;
  driver().streams.push_back(made);
  *stream = made;
  return done;
}
EXPORT int cuStreamDestroy_v2(void *stream) {
  std::lock_guard<std::recursive_mutex> guard(driver().lock);
  finish(stream);
  std::erase(driver().streams, (Stream *)stream);
  delete (Stream *)stream;
  return done;
}
EXPORT int cuStreamSynchronize(void *stream) {
  WITH_CONTEXT
  if (stream && ((Stream *)stream)->capturing) return captureUnsupported;
  return finish(stream);
}
EXPORT int cuStreamWaitEvent(void *stream, void *event, unsigned) {
  WITH_CONTEXT
  if (stream && ((Stream *)stream)->capturing) return captureUnsupported;
  Event *e = (Event *)event;
  // One that was never recorded is waited for no time.
  if (e->asked) put(stream, {nullptr, e, e->asked});
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

EXPORT int cuEventCreate(void **event, unsigned) {
  WITH_CONTEXT
  *event = new Event;
  return done;
}
EXPORT int cuEventRecord(void *event, void *stream) {
  WITH_CONTEXT
  Event *e = (Event *)event;
  const u64 recording = ++e->asked;
  e->stream = named(stream);
  return shim_enqueue(stream, [=] { e->time = Clock::now() + passed, e->done = recording; });
}
EXPORT int cuEventSynchronize(void *event) {
  WITH_CONTEXT
  Event *e = (Event *)event;
  return e->asked ? finish(e->stream, e, e->asked) : driver().sticky;
}
EXPORT int cuEventElapsedTime(float *milliseconds, void *start, void *end) {
  WITH_CONTEXT
  Event *a = (Event *)start, *b = (Event *)end;
  if (!a->done || !b->done) return invalidHandle;
  *milliseconds = std::chrono::duration<float, std::milli>(b->time - a->time).count();
  return done;
}
EXPORT int cuEventDestroy_v2(void *event) {
  std::lock_guard<std::recursive_mutex> guard(driver().lock);
  drain();
  delete (Event *)event;
  return done;
}
