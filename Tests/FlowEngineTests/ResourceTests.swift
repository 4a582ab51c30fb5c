import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import FlowTestSupport
import Foundation
import Synchronization
import Testing

@testable import FlowEngine

/// Keeps what is held at once, and in which order actions began.
private actor Watch {
  private(set) var begun: [String] = []
  private(set) var threads = 0, memory = 0, disk = 0, gpus: [String] = [], violations = 0
  private let capacity: Capacity

  init(_ capacity: Capacity) { self.capacity = capacity }

  func begin(_ name: String, _ request: Request, _ grant: Grant) {
    begun.append(name)
    threads += request.threads
    memory += request.memory
    disk += request.tokens["disk"] ?? 0
    gpus += grant.gpus
    let isWithin =
      threads <= capacity.threads && memory <= capacity.memory && disk <= capacity.tokens["disk"] ?? 0
    if !isWithin || Set(gpus).count < gpus.count || (request.isAlone && begun.count > ended + 1) {
      violations += 1
    }
  }
  private var ended = 0
  func end(_ request: Request, _ grant: Grant) {
    ended += 1
    threads -= request.threads
    memory -= request.memory
    disk -= request.tokens["disk"] ?? 0
    gpus.removeAll { grant.gpus.contains($0) }
  }
}

@Suite struct ResourceGateTests {
  private static func request(
    _ resources: Resources, _ capacity: Capacity, measured: Int? = nil
  ) -> Request {
    let declaration = StageDeclaration(name: "s", version: 1, doc: "", per: .item)
    let stage = PlannedStage(
      name: "s", declaration: declaration, parameters: [:], bindings: [:], resources: resources)
    return Request(stage, measured: measured, capacity)
  }

  /// Drawn requests of every kind, larger than the whole among them, in every order: all are served, nothing is ever
  /// handed out twice, and nothing beyond what there is.
  @Test(arguments: 0..<20) func allAreServedAndNothingIsHandedOutTwice(_ seed: Int) async {
    var capacity = Capacity(threads: 1 + seed % 4, memory: 1000, gpus: seed % 3 == 0 ? [] : ["0", "2"])
    capacity.tokens = ["disk": 2]
    let gate = ResourceGate(capacity)
    let watch = Watch(capacity)
    var random = Philox(seed: UInt64(seed), label: "gate")
    func draw(_ most: Int) -> Int { Int(random.next() % UInt64(most)) }
    let all = (0..<200).map { _ in
      (
        ResourceGateTests.request(
          Resources(cpu: draw(6), memory: draw(1200), gpu: draw(3), tokens: ["disk": draw(3)]), capacity),
        draw(20), Double(draw(5))
      )
    }
    await withTaskGroup(of: Void.self) { group in
      for (i, (request, order, _)) in all.enumerated() {
        group.addTask {
          // A rank belongs to a stage.
          let grant = await gate.enter(request, order: order, rank: Double(order % 5))
          await watch.begin("\(i)", request, grant)
          await Task.yield()
          await watch.end(request, grant)
          await gate.leave(request, grant)
        }
      }
    }
    #expect(await watch.begun.count == all.count)
    #expect(await watch.violations == 0)
  }

  /// While one thread is busy, requests queue; then the one with the longest way to go comes first.
  @Test func theLongestWayComesFirst() async {
    let capacity = Capacity(threads: 1)
    let gate = ResourceGate(capacity)
    let watch = Watch(capacity)
    let one = ResourceGateTests.request(Resources(), capacity)
    let busy = await gate.enter(one, order: 0, rank: 0)
    await withTaskGroup(of: Void.self) { group in
      for (order, rank) in [(1, 5.0), (2, 70.0), (3, 30.0), (4, 70.0)] {
        group.addTask {
          let grant = await gate.enter(one, order: order, rank: rank)
          await watch.begin("\(order)", one, grant)
          await watch.end(one, grant)
          await gate.leave(one, grant)
        }
      }
      while await gate.count < 4 { await Task.yield() }
      await gate.leave(one, busy)
    }
    #expect(await watch.begun == ["2", "4", "3", "1"])
  }

  /// What the first lacks is kept for it; those that need none of it pass.
  @Test func aLargeRequestIsNotStarvedAndHoldsUpOnlyWhatItNeeds() async {
    var capacity = Capacity(threads: 4, memory: 100)
    capacity.tokens = ["disk": 1]
    let gate = ResourceGate(capacity)
    let half = ResourceGateTests.request(Resources(memory: 60), capacity)
    let small = ResourceGateTests.request(Resources(memory: 10), capacity)
    let none = ResourceGateTests.request(Resources(), capacity)
    let held = await gate.enter(half, order: 0, rank: 9)
    let watch = Watch(capacity)
    await withTaskGroup(of: Void.self) { group in
      for (name, request, rank) in [("half", half, 8.0), ("small", small, 1.0), ("none", none, 1.0)] {
        group.addTask {
          let grant = await gate.enter(request, order: name.count, rank: rank)
          await watch.begin(name, request, grant)
          if name == "none" { await gate.leave(half, held) }
          await gate.leave(request, grant)
        }
        // 'half' waits before the others come.
        if name == "half" { while await gate.count < 1 { await Task.yield() } }
      }
    }
    #expect(await watch.begun.first == "none")
    #expect(await Set(watch.begun) == ["half", "small", "none"])
  }

  @Test func whatIsTooLargeIsClampedOrRunsAlone() {
    let capacity = Capacity(threads: 2, memory: 1000, gpus: ["7"])
    let large = ResourceGateTests.request(Resources(cpu: 64, memory: 5000), capacity)
    #expect(large.threads == 2 && large.memory == 1000 && large.isAlone)
    let all = ResourceGateTests.request(Resources(cpu: 0, memory: 100), capacity)
    #expect(all.threads == 2 && all.memory == 100 && !all.isAlone)
    // What was measured counts more than what was declared, with a fifth to spare.
    #expect(ResourceGateTests.request(Resources(memory: 900), capacity, measured: 100).memory == 120)
    #expect(all.grown(capacity).memory == 200)
    #expect(all.grown(capacity).grown(capacity).grown(capacity).grown(capacity).isAlone)
    #expect(ResourceGateTests.request(Resources(), capacity).grown(capacity).isAlone)
  }
}

@Suite struct MachineTests {
  @Test func memoryIsWhatKernelAndControlGroupsLeave() throws {
    let folder = try TemporaryFolder()
    #expect(MachineMemory.available(root: folder.path) == .max)
    try folder.write("proc/meminfo", "MemTotal:  9000 kB\nMemAvailable:    4000 kB\n")
    #expect(MachineMemory.available(root: folder.path) == 4_096_000)
    try folder.write("proc/self/cgroup", "4:memory:/job/7\n0::/slice/flow\n")
    try folder.write("sys/fs/cgroup/slice/memory.max", "3000000\n")
    try folder.write("sys/fs/cgroup/slice/memory.current", "1000000\n")
    try folder.write("sys/fs/cgroup/slice/memory.stat", "anon 5\ninactive_file 400000\n")
    try folder.write("sys/fs/cgroup/slice/flow/memory.max", "max\n")
    #expect(MachineMemory.available(root: folder.path) == 2_400_000)
    try folder.write("sys/fs/cgroup/memory/job/7/memory.limit_in_bytes", "500000\n")
    try folder.write("sys/fs/cgroup/memory/job/7/memory.usage_in_bytes", "200000\n")
    #expect(MachineMemory.available(root: folder.path) == 300_000)
    #expect(MachineMemory.available() > 1 << 20)
  }

  /// What an earlier action held is forgotten.
  @Test func peakMemoryIsMeasuredAnew() {
    let size = 200 << 20
    let block = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
    memset(block, 1, size)
    let before = Machine.peakMemory()
    block.deallocate()
    #expect(before > size)
    Machine.forgetPeakMemory()
    guard access("/proc/self/clear_refs", W_OK) == 0 else {
      return print("skipped: no /proc/self/clear_refs")
    }
    // Other tests in this process hold memory too.
    #expect(Machine.peakMemory() > 0 && Machine.peakMemory() < before - size / 2)
  }

  @Test func gpusAreThoseThatAreVisible() throws {
    let folder = try TemporaryFolder()
    for name in ["nvidia1", "nvidia0", "nvidiactl", "null"] { try folder.write(name, "") }
    #expect(Machine.gpus(environment: [:], devices: folder.path) == ["0", "1"])
    #expect(
      Machine.gpus(environment: ["CUDA_VISIBLE_DEVICES": "3, GPU-a"], devices: folder.path) == ["3", "GPU-a"])
    #expect(Machine.gpus(environment: ["CUDA_VISIBLE_DEVICES": ""], devices: folder.path).isEmpty)
    #expect(Machine.gpus(environment: ["CUDA_VISIBLE_DEVICES": "0,-1,1"], devices: folder.path) == ["0"])
  }
}

/// Resources in whole runs, with command stages.
@Suite struct ResourceRunTests {
  private func stage(_ bench: Bench, _ script: String, _ resources: Resources) -> Plan {
    var declaration = StageDeclaration(
      name: "run", version: 1, doc: "", per: .item, inputs: [InputDeclaration(name: "text", type: .lyrics)],
      outputs: [OutputDeclaration(name: "text", type: .lyrics)])
    var template = CommandTemplate(words: ["sh", "-c", script, "sh", "{out.text}", bench.folder.path])
    template.sandbox = false
    declaration.run = .command(template)
    var plan = bench.plan
    plan.stages = [
      PlannedStage(
        name: "run", declaration: declaration, parameters: [:], bindings: ["text": [.source("texts")]],
        resources: resources)
    ]
    plan.results = [PlannedResult(name: "out", references: [.output(stage: "run", output: "text")])]
    return plan
  }

  private func run(_ plan: Plan, _ bench: Bench, _ capacity: Capacity, _ events: EventList? = nil)
    async throws
    -> RunReport
  {
    try await Engine(
      store: bench.store, executor: bench.executor, capacity: capacity, observe: { events?.add($0) }
    ).run(plan, projectRoot: bench.folder.path)
  }

  private static let visible = "printf %s \"$CUDA_VISIBLE_DEVICES\" > \"$1\"/gpu.txt"

  @Test func aProgramSeesTheGPUsThatItWasGivenAndNoOthers() async throws {
    let bench = try Bench()
    let capacity = Capacity(threads: 1, gpus: ["4", "6"])
    _ = try await run(stage(bench, ResourceRunTests.visible, Resources(gpu: 1)), bench, capacity)
    #expect(bench.folder.text("runs/bench/out/a.txt") == "4")
    let two = try Bench()
    _ = try await run(stage(two, ResourceRunTests.visible, Resources(gpu: 2)), two, capacity)
    #expect(two.folder.text("runs/bench/out/b.txt") == "4,6")
    let none = try Bench()
    _ = try await run(stage(none, ResourceRunTests.visible, Resources()), none, capacity)
    #expect(none.folder.text("runs/bench/out/c.txt").isEmpty)
  }

  @Test func withoutAGPUNothingRunsUnlessAllIsThere() async throws {
    let bench = try Bench()
    let plan = stage(bench, ResourceRunTests.visible, Resources(gpu: 1))
    await #expect {
      try await self.run(plan, bench, Capacity(threads: 1))
    } throws: { error in
      let hit = (error as? Diagnostics)?.all.first
      return hit?.code == "E035" && hit?.message.contains("needs a GPU") == true
    }
    #expect(bench.store.recordKeys().isEmpty)
    _ = try await run(plan, bench, Capacity(threads: 1, gpus: ["0"]))
    // What was made with one is used without one.
    #expect(try await run(plan, bench, Capacity(threads: 1)).stages[0].state == .cached)
  }

  /// Two items at once would meet in the folder that each makes and removes.
  @Test func aTokenKeepsActionsApart() async throws {
    let bench = try Bench()
    var plan = stage(
      bench, "mkdir \"$2\"/lock && sleep 0.05 && rmdir \"$2\"/lock && echo x > \"$1\"/o.txt",
      Resources(tokens: ["disk": 1]))
    plan.limits.tokens = ["disk": 1]
    let report = try await run(plan, bench, Capacity(threads: 4))
    #expect(report.stages[0].quarantined.isEmpty, "\(report.stages[0].quarantined)")
  }

  @Test func whatWantsMoreMemoryThanThereIsRunsAloneAndSaysSo() async throws {
    let bench = try Bench()
    let plan = stage(
      bench, "mkdir \"$2\"/lock && sleep 0.05 && rmdir \"$2\"/lock && echo x > \"$1\"/o.txt",
      Resources(memory: 1 << 40))
    let events = EventList()
    let report = try await run(plan, bench, Capacity(threads: 4, memory: 1 << 30), events)
    #expect(report.stages[0].quarantined.isEmpty, "\(report.stages[0].quarantined)")
    #expect(
      events.warnings == ["wants 1048576 MB of memory of 1024 MB; its actions run alone, one after the other"]
    )
  }

  /// Killed the first time: again with twice the memory; the log and the record are those of the try that did it.
  @Test func wantOfMemoryIsTriedAgainWithMore() async throws {
    let bench = try Bench()
    for name in ["b", "c"] { unlink(bench.folder.path + "/texts/\(name).txt") }
    let script =
      "echo x >> \"$2\"/tries; [ $(wc -l < \"$2\"/tries) -ge 3 ] || kill -9 $$; echo done > \"$1\"/o.txt"
    var plan = stage(bench, script, Resources(memory: 100 << 20))
    let capacity = Capacity(threads: 1, memory: 350 << 20)
    plan.stages[0].retries = [.outOfMemory: 1]
    #expect(try await run(plan, bench, capacity).failed)
    unlink(bench.folder.path + "/tries")
    plan.stages[0].retries = [.outOfMemory: 2]
    let events = EventList()
    #expect(try await !run(plan, bench, capacity, events).failed)
    #expect(bench.folder.text("tries") == "x\nx\nx\n")
    #expect(events.retries.count == 2 && events.retries[0].contains("next with 200 MB set aside"))
    #expect(events.retries.last?.contains("next alone") == true)
  }

  @Test func memoryAndTimeAreMeasuredAndForetold() async throws {
    let bench = try Bench()
    // A string of 40 MB in the shell.
    let script = "x=$(head -c 20000000 /dev/zero | tr '\\0' a); sleep 0.1; echo ${#x} > \"$1\"/o.txt"
    let plan = stage(bench, script, Resources(memory: 1 << 20))
    let engine = Engine(store: bench.store, executor: bench.executor, jobs: 3)
    #expect(try engine.assess(plan).forecast == nil)
    let report = try await engine.run(plan, projectRoot: bench.folder.path)
    #expect(report.stages[0].peakMemory > 20_000_000)
    #expect(try engine.assess(plan).forecast == nil)
    var edited = plan
    edited.stages[0].declaration.version = 2
    let assessed = try engine.assess(edited)
    #expect(assessed.stages[0].expectedMemory > 24_000_000)
    let forecast = try #require(assessed.forecast)
    #expect(forecast.seconds > 0.1 && forecast.seconds <= (assessed.stages[0].expectedSeconds ?? 0))
    #expect(forecast.memory >= 3 * assessed.stages[0].expectedMemory)
    // A part of the items costs a part.
    try bench.folder.write("texts/d.txt", "d text")
    let part = try #require(try engine.assess(plan).stages[0].expectedSeconds)
    #expect(part > 0 && part < (assessed.stages[0].expectedSeconds ?? 0) / 2)
  }

  @Test func outputsThatAreNeverKeptGoWithTheRun() async throws {
    let bench = try Bench()
    var plan = bench.plan
    for i in plan.stages.indices { plan.stages[i].retain = .never }
    _ = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    #expect(bench.result.hasPrefix("a=A;"))
    #expect(
      Set(bench.store.objectDigests()).isDisjoint(with: [
        Digest(of: Array("A TEXT".utf8)), Digest(of: Array("A".utf8)), Digest(of: Array(bench.result.utf8)),
      ]))
    let again = try await bench.engine.run(plan, projectRoot: bench.folder.path)
    #expect(again.stages.allSatisfy { $0.state == .cached })
  }
}

/// What a run said.
final class EventList: Sendable {
  private let events = Mutex<[RunEvent]>([])
  func add(_ event: RunEvent) { events.withLock { $0.append(event) } }
  var warnings: [String] {
    events.withLock { $0.compactMap { if case .warning(_, let text) = $0 { text } else { nil } } }
  }
  var retries: [String] {
    events.withLock { $0.compactMap { if case .retry(_, _, let text) = $0 { text } else { nil } } }
  }
}
