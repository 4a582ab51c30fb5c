// Streams, graphs and events. All streams share one queue, which keeps the order of the calls: what several streams leave
// unordered is not found here.
#include "driver.hpp"

#include <chrono>

EXPORT int shim_enqueue(void *stream, Action action) {
  if (stream && ((Stream *)stream)->capturing)
    ((Stream *)stream)->graph->actions.push_back(std::move(action));
  else
    driver().queue.push_back(std::move(action));
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
  s->capturing = true, s->mode = mode, s->graph = new Graph;
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
  for (const Action &action : ((Graph *)exec)->actions) shim_enqueue(stream, action);
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
  return shim_enqueue(stream, [=] { e->time = Clock::now(), e->recorded = true; });
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
