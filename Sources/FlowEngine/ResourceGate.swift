/// Hands out threads, memory, GPUs and tokens. Who lies on the longest way to the end comes first; what such a one lacks is
/// kept for it, so that nobody waits for ever, while those who need nothing of that go on. Every request fits the
/// capacity and is held by running actions only, so something can always go on.
actor ResourceGate {
  /// Those of a stage that wait with the same request.
  private struct Lane {
    let order: Int
    let rank: Double
    let request: Request
    var waiting: [CheckedContinuation<Grant, Never>] = []
    /// The first that still waits.
    var next = 0
    var isEmpty: Bool { next == waiting.count }

    func isBefore(_ rank: Double, _ order: Int) -> Bool {
      self.rank != rank ? self.rank > rank : self.order < order
    }
  }

  private struct Free {
    var threads: Int
    var memory: Int
    var gpus: [String]
    var tokens: [String: Int]
  }

  private let capacity: Capacity
  private var free: Free
  /// In the order in which they are served.
  private var lanes: [Lane] = []

  init(_ capacity: Capacity) {
    self.capacity = capacity
    free = Free(
      threads: capacity.threads, memory: capacity.memory, gpus: capacity.gpus, tokens: capacity.tokens)
  }

  /// How many wait.
  var count: Int { lanes.reduce(0) { $0 + $1.waiting.count - $1.next } }

  /// Waits until the request can be granted.
  /// - Parameters:
  ///   - order: the place of the stage, for equal ranks.
  ///   - rank: seconds from the stage's begin to the end of the run.
  func enter(_ request: Request, order: Int, rank: Double) async -> Grant {
    await withCheckedContinuation { continuation in
      var (low, high) = (0, lanes.count)
      while low < high {
        let middle = (low + high) / 2
        if lanes[middle].isBefore(rank, order) { low = middle + 1 } else { high = middle }
      }
      while low < lanes.count, lanes[low].order == order, lanes[low].request != request { low += 1 }
      if low == lanes.count || lanes[low].order != order {
        lanes.insert(Lane(order: order, rank: rank, request: request), at: low)
      }
      lanes[low].waiting.append(continuation)
      serve()
    }
  }

  /// Gives back what was granted for `request`.
  func leave(_ request: Request, _ grant: Grant) {
    free.threads += request.isAlone ? capacity.threads : request.threads
    free.memory += request.memory
    // In the order of the ids, so that the first is used first.
    let held = Set(free.gpus + grant.gpus)
    free.gpus = capacity.gpus.filter(held.contains)
    for (name, count) in request.tokens { free.tokens[name, default: 0] += count }
    serve()
  }

  private func serve() {
    // What those who come first lack is left untouched for the others.
    var rest = free
    var served: [(CheckedContinuation<Grant, Never>, Grant)] = []
    for i in lanes.indices {
      let request = lanes[i].request
      let threads = request.isAlone ? capacity.threads : request.threads
      while !lanes[i].isEmpty, rest.threads >= threads, rest.memory >= request.memory,
        rest.gpus.count >= request.gpus,
        request.tokens.allSatisfy({ rest.tokens[$0.key, default: 0] >= $0.value })
      {
        let gpus = Array(rest.gpus.prefix(request.gpus))
        take(&rest, threads, request)
        take(&free, threads, request)
        served.append(
          (
            lanes[i].waiting[lanes[i].next],
            Grant(threads: request.threads, memory: request.memory, gpus: gpus)
          ))
        lanes[i].next += 1
      }
      guard !lanes[i].isEmpty else { continue }
      if rest.threads < threads { break }
      if rest.memory < request.memory { rest.memory = 0 }
      if rest.gpus.count < request.gpus { rest.gpus = [] }
      for (name, count) in request.tokens where rest.tokens[name, default: 0] < count {
        rest.tokens[name] = 0
      }
    }
    lanes.removeAll(where: \.isEmpty)
    for (continuation, grant) in served { continuation.resume(returning: grant) }
  }

  private func take(_ free: inout Free, _ threads: Int, _ request: Request) {
    free.threads -= threads
    free.memory -= request.memory
    free.gpus.removeFirst(request.gpus)
    for (name, count) in request.tokens { free.tokens[name, default: 0] -= count }
  }
}
