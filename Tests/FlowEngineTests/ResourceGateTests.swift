import FlowCore
import FlowPlan
import FlowStageKit
import FlowStore
import FlowTestSupport
import Foundation
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
